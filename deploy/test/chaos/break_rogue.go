package chaos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/rogue"
	"github.com/rs/zerolog"
)

// villain has the platform's credentials and those of an agent.
type villain struct {
	s        *stand
	random   *rand.Rand // of the goroutine that overhears
	worker   *rogue.Client
	signer   *rogue.Client
	listener *rogue.Client
	lane     string // of the local issuer

	mu    sync.Mutex // guards what follows
	taken []certctl.Statement
	said  int
}

// marked is the header of hints that are the villain's own: hearing those again
// would make ever more of them. Its value tells those that become dead letters.
const (
	marked    = "rogue"
	markedBad = "bad"
)

// meddle lets a villain work while submissions go on.
func meddle(ctx context.Context, s *stand) error {
	v, err := newVillain(ctx, s)
	if err != nil {
		return err
	}
	defer v.close()
	overheard := v.overhear(ctx)
	defer overheard()
	for range s.times(6, 1) {
		for _, act := range []func(context.Context) error{v.takeReports, v.forge, v.ring, v.takeMailboxes, v.replay, v.swallow} {
			if err := act(ctx); err != nil {
				return err
			}
			s.moment(ctx, time.Second)
		}
	}
	overheard()
	s.logf("%d hints were said again", v.said)
	return s.recovered(ctx)
}

func newVillain(ctx context.Context, s *stand) (*villain, error) {
	v := &villain{s: s, random: rand.New(rand.NewPCG(s.options.Seed, s.random.Uint64()))} //nolint:gosec // to be repeated
	for _, c := range []struct {
		client **rogue.Client
		role   bus.Role
	}{{&v.worker, bus.RoleWorker}, {&v.signer, bus.RoleSigner}, {&v.listener, bus.RoleScheduler}} {
		var err error
		*c.client, err = rogue.Connect("tls://"+s.NATS[0].Listen, s.NATSFile("tls.crt"), filepath.Join(s.Credentials(), string(c.role)+".creds"))
		if err != nil {
			return nil, fmt.Errorf("log in as %s: %w", c.role, err)
		}
	}
	var err error
	v.lane, err = s.lane(ctx)
	return v, err
}

func (v *villain) close() {
	for _, c := range []*rogue.Client{v.worker, v.signer, v.listener} {
		c.Close()
	}
}

// overhear says hints again until it is ended: at once, later and in another
// order, or in a lane where they do not belong.
func (v *villain) overhear(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		var kept []rogue.Intent
		for ctx.Err() == nil {
			heard, err := v.listener.Overhear(ctx, "rogue", 200)
			if err != nil && ctx.Err() == nil {
				v.s.logf("the villain hears nothing: %v", err)
			}
			for _, i := range heard {
				if i.Header.Get(marked) == "" {
					i.Header.Set(marked, "1")
					kept = append(kept, v.repeat(i)...)
				}
			}
			v.random.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
			late := len(kept) / 2
			v.say(v.listener, kept[:late]...)
			kept = kept[late:]
			v.s.pass(ctx, 200*time.Millisecond)
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// repeat says a hint now or returns it to be said later.
func (v *villain) repeat(i rogue.Intent) (later []rogue.Intent) {
	switch v.random.IntN(4) {
	case 0:
		v.say(v.listener, i, i)
	case 1:
		return []rogue.Intent{i}
	case 2:
		verb := certctl.HintVerbs[v.random.IntN(len(certctl.HintVerbs))]
		other := i
		other.Subject = bus.SubjectIntent(verb, certctl.NoLane)
		v.say(v.listener, other)
	}
	return nil
}

func (v *villain) say(c *rogue.Client, all ...rogue.Intent) {
	for _, i := range all {
		if err := c.Say(i); err != nil {
			v.s.logf("the villain is not heard: %v", err)
			return
		}
		v.said++
	}
}

// forge says what nobody has: hints about nothing and everything, and those that
// cannot be read, of which each becomes a dead letter.
func (v *villain) forge(context.Context) error {
	v.s.fault("hints forged")
	now := time.Now()
	for _, verb := range certctl.HintVerbs {
		for _, lane := range []string{v.lane, certctl.NoLane} {
			if err := v.worker.Say(rogue.Hint(verb, lane, certctl.NewID(now), certctl.NewID(now), certctl.NoID)); err != nil {
				return err
			}
		}
	}
	bad := append(rogue.Malformed(certctl.HintIssue, v.lane), rogue.Malformed(certctl.HintRenew, certctl.NoLane)...)
	if !v.s.options.Short { // they are kept for half a minute, for whoever may know them
		bad = append(bad, rogue.Newer(certctl.HintIssue, v.lane)...)
	}
	v.s.letters += len(bad)
	for _, i := range append(bad, rogue.Nowhere()...) {
		i.Header.Set(marked, markedBad)
		if err := v.worker.Say(i); err != nil {
			return err
		}
	}
	return v.worker.Flush()
}

// ring rings everybody for nothing.
func (v *villain) ring(context.Context) error {
	v.s.fault("bells rung for nothing")
	for _, a := range v.s.Agents {
		id, err := agent.LoadIdentity(a.Dir)
		if err != nil {
			return err
		}
		for range 200 {
			if err := v.worker.Ring(id.Agent); err != nil {
				return err
			}
		}
	}
	return v.worker.Flush()
}

// swallow takes hints away from those who should work on them. The dispatcher
// gives them again a minute after they were due.
func (v *villain) swallow(ctx context.Context) error {
	if v.s.options.Short {
		return nil
	}
	v.s.fault("hints swallowed")
	n := 0
	for range 8 {
		taken, err := v.worker.Swallow(ctx, certctl.HintIssue, v.lane, 8, time.Second)
		if err != nil {
			return err
		}
		n += len(taken)
		for _, i := range taken {
			if i.Header.Get(marked) == markedBad {
				v.s.letters--
			}
		}
	}
	v.s.logf("%d hints were swallowed", n)
	if n == 0 {
		v.s.problem("no hint was swallowed: nothing was tried")
	}
	return nil
}

// takeReports takes a share of the reports away, and keeps them.
func (v *villain) takeReports(ctx context.Context) error {
	v.s.fault("reports swallowed")
	return v.take(ctx, v.worker.TakeReports)
}

func (v *villain) takeMailboxes(ctx context.Context) error {
	v.s.fault("mailbox requests swallowed")
	return v.take(ctx, v.signer.TakeMailboxes)
}

func (v *villain) take(ctx context.Context, from func(func(rogue.Ask)) (func() error, error)) error {
	stop, err := from(func(ask rogue.Ask) {
		var s certctl.Statement
		if err := json.Unmarshal(ask.Data, &s); err == nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.taken = append(v.taken, s)
		}
	})
	if err != nil {
		return err
	}
	v.s.pass(ctx, v.s.span(5*time.Second, 2*time.Second))
	return stop()
}

// replay sends what agents have signed again, with the agent's own credentials:
// as it was, changed, and as another agent's.
func (v *villain) replay(ctx context.Context) error {
	v.mu.Lock()
	taken := v.taken
	v.taken = nil
	v.mu.Unlock()
	v.s.fault("%d signed reports sent again, changed, and by another agent", len(taken))
	conns := map[certctl.ID]*bus.AgentConn{}
	for _, a := range v.s.Agents {
		id, conn, err := v.impersonate(ctx, a.Dir)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns[id] = conn
	}
	for _, s := range taken {
		for id, conn := range conns {
			if err := v.sendAgain(ctx, conn, s, id == s.Agent); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *villain) sendAgain(ctx context.Context, conn *bus.AgentConn, s certctl.Statement, own bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	what, bad := "sent by another agent", s
	if own {
		for range 2 {
			if _, err := ask(ctx, conn, s); err != nil {
				return fmt.Errorf("send a %s again: %w", s.Kind, err)
			}
		}
		what, bad.Body = "changed", append([]byte(" "), s.Body...)
	}
	believed, err := ask(ctx, conn, bad)
	if believed {
		v.s.problem("a %s that was %s is believed", s.Kind, what)
	}
	if err != nil && certctl.ErrorCode(err) != certctl.Denied {
		return fmt.Errorf("send a %s that was %s: %w", s.Kind, what, err)
	}
	return nil
}

// ask sends a statement and reports whether it was believed.
func ask(ctx context.Context, conn *bus.AgentConn, s certctl.Statement) (believed bool, err error) {
	if s.Kind == certctl.ReportMailbox {
		_, err := conn.Mailbox(ctx, s)
		return err == nil, err
	}
	answer, err := conn.Report(ctx, s)
	return err == nil && answer.Recorded, err
}

// impersonate logs in with what lies in an agent's folder.
func (v *villain) impersonate(ctx context.Context, dir string) (certctl.ID, *bus.AgentConn, error) {
	var keys struct {
		BusSeed []byte `json:"bus_seed"`
	}
	var credentials struct {
		JWT string `json:"jwt"`
	}
	id, err := agent.LoadIdentity(dir)
	err = errors.Join(err, readJSON(filepath.Join(dir, "node-keys.json"), &keys), readJSON(filepath.Join(dir, "credentials.json"), &credentials))
	if err != nil {
		return id.Agent, nil, err
	}
	pem, err := os.ReadFile(v.s.NATSFile("tls.crt"))
	if err != nil {
		return id.Agent, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := bus.DialAgent(ctx, bus.AgentOptions{
		URLs: []string{"tls://" + v.s.NATS[0].Listen}, Agent: id.Agent, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		UserJWT: func() (string, error) { return credentials.JWT, nil }, Log: zerolog.Nop(),
		Sign: func(nonce []byte) ([]byte, error) { return bus.SignNonce(keys.BusSeed, nonce) },
	})
	if err == nil && !v.s.await(ctx, 20*time.Second, conn.Connected) {
		err = errors.New("an agent's credentials do not let the villain in")
	}
	return id.Agent, conn, err
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
