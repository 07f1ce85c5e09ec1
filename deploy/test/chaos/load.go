package chaos

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const (
	submitEvery  = 60 * time.Millisecond // of one submitter
	submitters   = 2
	callTimeout  = 5 * time.Second
	probeTimeout = 2 * time.Minute
	lookEvery    = 20 * time.Millisecond
)

// load submits certificates to all servers in turn, each under an idempotency
// key and again until it is accepted or refused for good.
type load struct {
	apis []*local.API
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex // guards what follows
	next     int
	accepted map[string]submitted // by name
	refused  []string             // answers that nobody should get
	retries  int
}

// submitted is what is expected of a submission.
type submitted struct {
	target string // empty: the client has the key
}

func newLoad(apis []*local.API) *load {
	for _, api := range apis {
		api.HTTP.Timeout = callTimeout
	}
	return &load{apis: apis, accepted: map[string]submitted{}}
}

// start submits until end is called.
func (l *load) start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	for range submitters {
		l.done.Go(func() {
			ticker := time.NewTicker(submitEvery)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				_, _ = l.submit(ctx) // it says itself what is wrong
			}
		})
	}
}

// end stops submitting. What was not accepted by then never counts.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// submit makes one certificate, one in four with a key of the client's. It
// returns its name once a server has accepted it.
func (l *load) submit(ctx context.Context) (string, error) {
	l.mu.Lock()
	n := l.next
	l.next++
	l.mu.Unlock()
	name := fmt.Sprintf("c%05d", n)
	body := map[string]any{"name": name, "dns_names": []string{name + ".example.com"}, "issuer": "local"}
	expected := submitted{}
	if n%4 == 3 {
		csr, err := newCSR(name + ".example.com")
		if err != nil {
			return name, err
		}
		body["csr"] = csr
	} else {
		expected.target = []string{"a", "b"}[n%2]
		body["targets"] = []string{"files-" + expected.target}
	}
	for try := 0; ; try++ {
		err := l.apis[(n+try)%len(l.apis)].CallOnce(ctx, http.MethodPost, "/api/v1/certificates", name, body, nil)
		if err == nil {
			l.mu.Lock()
			l.accepted[name] = expected
			l.mu.Unlock()
			return name, nil
		}
		if ctx.Err() != nil {
			return name, ctx.Err()
		}
		l.mu.Lock()
		l.retries++
		var status *local.StatusError
		if errors.As(err, &status) && status.Status < 500 && status.Status != http.StatusTooManyRequests {
			l.refused = append(l.refused, fmt.Sprintf("%s: %v", name, err))
			l.mu.Unlock()
			return name, err
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return name, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// probe measures the time until a new certificate is where it belongs.
func (l *load) probe(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	started := time.Now()
	name, err := l.submit(ctx)
	if err != nil {
		return 0, fmt.Errorf("nothing is accepted: %w", err)
	}
	for try := 0; ; try++ {
		var c struct {
			Status struct {
				State  string `json:"state"`
				Reason string `json:"reason"`
			} `json:"status"`
		}
		err := l.apis[try%len(l.apis)].Call(ctx, http.MethodGet, "/api/v1/certificates/"+name, nil, &c)
		if err == nil && c.Status.State == "active" {
			return time.Since(started), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s is still %s (%s) after %s: %w", name, c.Status.State, c.Status.Reason, time.Since(started), err)
		case <-time.After(lookEvery):
		}
	}
}

// known returns a copy of what was accepted.
func (l *load) known() map[string]submitted {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]submitted, len(l.accepted))
	for name, s := range l.accepted {
		out[name] = s
	}
	return out
}

func newCSR(name string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}
