package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/deploy/local"
	"github.com/rs/zerolog"
)

// Agent is one simulated node.
type Agent struct {
	Name string
	ID   certctl.ID

	installation certctl.ID
	machine      string
	session      certctl.ID
	signing      ed25519.PrivateKey
	busSeed      []byte
	jwt          string
	conn         *bus.AgentConn
	installs     atomic.Int64

	mu        sync.Mutex // guards what follows
	answers   []time.Time
	requested map[certctl.ID][]byte // CSRs by order
	installed map[certctl.ID]certctl.Installed
}

// enrol makes the keys of an agent, its place at the server and its credentials.
func enrol(ctx context.Context, o Options, token, name string) (*Agent, error) {
	a := &Agent{
		Name: name, machine: "simulated-" + name, session: certctl.NewID(time.Now()),
		requested: map[certctl.ID][]byte{}, installed: map[certctl.ID]certctl.Installed{},
	}
	var keys certctl.AgentKeys
	var err error
	if a.busSeed, keys.Bus, err = bus.NewUserKey(); err != nil {
		return nil, err
	}
	if keys.Signing, a.signing, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if _, keys.Sealing, err = certctl.NewSealingKey(); err != nil {
		return nil, err
	}
	var enrolled certctl.Enrolled
	err = call(ctx, o.API, "/api/v1/agents/enroll", certctl.Enrolment{
		Token: token, Name: name, MachineID: a.machine, Keys: keys, Version: "simulated",
	}, &enrolled)
	if err != nil {
		return nil, fmt.Errorf("enrol %s: %w", name, err)
	}
	a.ID, a.installation = enrolled.Agent, enrolled.Installation
	return a, a.renew(ctx, o.API)
}

// renew gets credentials for the bus.
func (a *Agent) renew(ctx context.Context, api *local.API) error {
	path := "/api/v1/agents/" + a.ID.String() + "/credentials"
	var nonce struct {
		Nonce []byte `json:"nonce"`
	}
	if err := call(ctx, api, path+"/nonce", struct{}{}, &nonce); err != nil {
		return err
	}
	s, err := certctl.NewStatement(a.signing, certctl.Statement{
		Domain: certctl.DomainCredentials, Installation: a.installation, Agent: a.ID, Kind: "credentials", Time: time.Now(),
	}, nonce)
	if err != nil {
		return err
	}
	var fresh certctl.Credentials
	err = call(ctx, api, path, s, &fresh)
	a.jwt = fresh.JWT
	return err
}

// call posts, again while the server is busy: enrolments come in at the pace that
// it can keep.
func call(ctx context.Context, api *local.API, path string, in, out any) error {
	for try := 0; ; try++ {
		err := api.Call(ctx, http.MethodPost, path, in, out)
		var status *local.StatusError
		if err == nil || errors.As(err, &status) && status.Status < 500 && status.Status != http.StatusTooManyRequests || try == 20 || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(100+mathrand.IntN(400)) * time.Millisecond):
		}
	}
}

// connect begins to connect to the bus; it goes on doing so until close.
func (a *Agent) connect(ctx context.Context, o Options) (err error) {
	a.conn, err = bus.DialAgent(ctx, bus.AgentOptions{
		URLs: o.BusURLs, Agent: a.ID, TLS: o.TLS, Log: zerolog.Nop(),
		UserJWT: func() (string, error) { return a.jwt, nil },
		Sign:    func(nonce []byte) ([]byte, error) { return bus.SignNonce(a.busSeed, nonce) },
	})
	return err
}

func (a *Agent) close() {
	if a.conn != nil {
		a.conn.Close()
	}
}

// Patience and pauses are those of a real agent.
const (
	askFirst   = 3 * time.Second
	askMost    = 20 * time.Second
	pauseLeast = time.Second
	pauseMost  = 30 * time.Second
)

// work asks the mailbox on each bell until ctx ends, and does what it says.
func (a *Agent) work(ctx context.Context) {
	failures := 0
	for {
		var retry <-chan time.Time
		if failures > 0 {
			pause := min(pauseLeast<<min(failures-1, 8), pauseMost)
			retry = time.After(mathrand.N(pause) + pauseLeast/10)
		}
		select {
		case <-ctx.Done():
			return
		case _, open := <-a.conn.Bells():
			if !open {
				return
			}
		case <-retry:
		}
		more := true
		for more && ctx.Err() == nil {
			var err error
			if more, err = a.ask(ctx, failures); err != nil {
				failures++
				break
			}
			failures = 0
		}
	}
}

// ask asks once and carries out what comes.
func (a *Agent) ask(ctx context.Context, failures int) (more bool, err error) {
	request, err := a.statement(certctl.ReportMailbox, certctl.NoID, 0, certctl.MailboxRequest{
		Session: a.session, MachineID: a.machine, Version: "simulated", Capabilities: []string{"files"}, Installed: a.inPlace(),
	})
	if err != nil {
		return false, err
	}
	call, cancel := context.WithTimeout(ctx, min(askFirst<<min(failures, 4), askMost))
	defer cancel()
	box, err := a.conn.Mailbox(call, request)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	a.answers = append(a.answers[max(0, len(a.answers)-16):], time.Now())
	a.mu.Unlock()
	for _, command := range box.Commands {
		if err := a.obey(ctx, command); err != nil {
			return false, err
		}
	}
	return box.More, nil
}

func (a *Agent) inPlace() []certctl.Installed {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.installed))
}

// obey carries out a command as far as a node without a disk can. Its signature is
// not verified: that is what real agents are tested for.
func (a *Agent) obey(ctx context.Context, s certctl.Statement) error {
	switch s.Kind {
	case certctl.CommandMakeKey:
		var c certctl.KeyCommand
		if err := s.Decode(&c); err != nil {
			return err
		}
		csr, err := a.request(c)
		if err != nil {
			return err
		}
		return a.report(ctx, certctl.ReportCSR, c.Order, s.Number, certctl.CSRReport{Order: c.Order, CSR: csr})
	case certctl.CommandInstall:
		var c certctl.InstallCommand
		if err := s.Decode(&c); err != nil {
			return err
		}
		a.mu.Lock()
		a.installed[c.Binding] = certctl.Installed{Binding: c.Binding, Version: c.Version, Number: s.Number}
		a.mu.Unlock()
		a.installs.Add(1)
		return a.report(ctx, certctl.ReportReceipt, c.Deployment, s.Number, certctl.Receipt{
			Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Fingerprint: c.Fingerprint,
			Outcome: certctl.OutcomeInstalled, Generation: 1, At: time.Now().UTC(),
		})
	}
	return nil
}

// request returns the CSR of an order, the same one each time.
func (a *Agent) request(c certctl.KeyCommand) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.requested[c.Order]; known != nil {
		return known, nil
	}
	key, err := c.Algorithm.Generate()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: c.Names.DNS}, key)
	a.requested[c.Order] = csr
	return csr, err
}

func (a *Agent) report(ctx context.Context, kind string, object certctl.ID, number int64, body any) error {
	s, err := a.statement(kind, object, number, body)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	answer, err := a.conn.Report(call, s)
	if err == nil && !answer.Recorded && !answer.Final {
		err = fmt.Errorf("the report is not recorded: %s", answer.Message)
	}
	return err
}

func (a *Agent) statement(kind string, object certctl.ID, number int64, body any) (certctl.Statement, error) {
	return certctl.NewStatement(a.signing, certctl.Statement{
		Domain: certctl.DomainAgent, Installation: a.installation, Agent: a.ID, Kind: kind, Object: object, Number: number, Time: time.Now(),
	}, body)
}

// firstAfter is when the first answer came that was asked for after a moment; zero
// if there is none yet.
func (a *Agent) firstAfter(after time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.answers {
		if at.After(after) {
			return at
		}
	}
	return time.Time{}
}
