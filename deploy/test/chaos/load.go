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
	"path/filepath"
	"sync"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const (
	submitEvery  = 250 * time.Millisecond // of one submitter
	calmEvery    = time.Second            // likewise
	submitters   = 2
	callTimeout  = 5 * time.Second
	probeTimeout = 2 * time.Minute
	lookEvery    = 20 * time.Millisecond
)

// load submits certificates to all servers in turn, each under an idempotency
// key and again until it is accepted or refused for good.
type load struct {
	apis []*local.API
	dir  string // of the fleet
	// every is the time between two submissions of one submitter.
	every time.Duration
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	next     int
	accepted map[string]submitted // by name
	refused  []string             // answers that nobody should get
	renewals map[string]int       // by name, beyond the first leaf
	retries  int
	keys     int
}

// submitted is what is expected of a submission.
type submitted struct {
	folder string // of its files on the node; empty: the client has the key
}

func newLoad(apis []*local.API, dir string) *load {
	for _, api := range apis {
		api.HTTP.Timeout = callTimeout
	}
	return &load{apis: apis, dir: dir, every: submitEvery, accepted: map[string]submitted{}, renewals: map[string]int{}}
}

// start submits until end is called.
func (l *load) start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	for range submitters {
		l.done.Go(func() {
			ticker := time.NewTicker(l.every)
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
	n := l.number()
	if n%4 != 3 {
		agent := agents[n%len(agents)]
		return l.submitTo(ctx, "files-"+agent, filepath.Join(l.dir, "agent-"+agent, "live"))
	}
	name := fmt.Sprintf("c%05d", n)
	csr, err := newCSR(name + ".example.com")
	if err != nil {
		return name, err
	}
	return name, l.send(ctx, n, map[string]any{"name": name, "csr": csr}, submitted{})
}

// submitTo makes one certificate for a target whose places are in a folder.
func (l *load) submitTo(ctx context.Context, target, folder string) (string, error) {
	n := l.number()
	name := fmt.Sprintf("c%05d", n)
	return name, l.send(ctx, n, map[string]any{"name": name, "targets": []string{target}}, submitted{folder: filepath.Join(folder, name)})
}

func (l *load) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next - 1
}

// send posts a certificate until a server has accepted it.
func (l *load) send(ctx context.Context, n int, body map[string]any, expected submitted) error {
	name, _ := body["name"].(string)
	body["dns_names"], body["issuer"] = []string{name + ".example.com"}, "local"
	for try := 0; ; try++ {
		err := l.apis[(n+try)%len(l.apis)].CallOnce(ctx, http.MethodPost, "/api/v1/certificates", name, body, nil)
		if err == nil {
			l.mu.Lock()
			l.accepted[name] = expected
			l.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.refuses(name, err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// refuses counts a failure and reports whether it is for good.
func (l *load) refuses(name string, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retries++
	var status *local.StatusError
	if !errors.As(err, &status) || status.Status >= 500 || status.Status == http.StatusTooManyRequests {
		return false
	}
	l.refused = append(l.refused, fmt.Sprintf("%s: %v", name, err))
	return true
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
	err = l.active(ctx, name)
	return time.Since(started), err
}

// active returns when a certificate is where it belongs.
func (l *load) active(ctx context.Context, name string) error {
	started := time.Now()
	for try := 0; ; try++ {
		var c struct {
			Status struct {
				State  string `json:"state"`
				Reason string `json:"reason"`
			} `json:"status"`
		}
		err := l.apis[try%len(l.apis)].Call(ctx, http.MethodGet, "/api/v1/certificates/"+name, nil, &c)
		if err == nil && c.Status.State == "active" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still %s (%s) after %s: %w", name, c.Status.State, c.Status.Reason, time.Since(started), err)
		case <-time.After(lookEvery):
		}
	}
}

// within is active with a limit.
func (l *load) within(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return l.active(ctx, name)
}

// call asks each server in turn until one answers.
func (l *load) call(ctx context.Context, method, path string, body, out any) error {
	l.mu.Lock()
	l.keys++
	key := fmt.Sprintf("call-%d", l.keys)
	l.mu.Unlock()
	for try := 0; ; try++ {
		err := l.apis[try%len(l.apis)].CallOnce(ctx, method, path, key, body, out)
		var status *local.StatusError
		if err == nil || errors.As(err, &status) && status.Status < 500 || try == 50 || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// renews says that one more leaf of a certificate is asked for.
func (l *load) renews(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewals[name]++
}

// expected is how many leaves each key of a certificate may have.
func (l *load) expected(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 1 + l.renewals[name]
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
