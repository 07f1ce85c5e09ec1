package agent

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// idle is an agent that does not run: what it would do is seen in its journal
// and its counter of refused commands.
func idle(t testing.TB) *node {
	t.Helper()
	n := enrolled(t)
	n.conns = make(chan *memoryConn, 1)
	agent, err := New(n.options())
	if err != nil {
		t.Fatal(err)
	}
	n.running = agent
	t.Cleanup(func() {
		if err := agent.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Every field of a command is under the signature or compared with what is, so
// that no altered command makes work.
func TestAlteredCommandsAreRefused(t *testing.T) {
	t.Parallel()
	n := idle(t)
	body := func(change func(*certctl.InstallCommand)) []byte {
		leaf := []byte("leaf")
		c := certctl.InstallCommand{
			Deployment: certctl.ID{1}, Binding: certctl.ID{2}, Target: certctl.ID{3}, Version: certctl.ID{4}, Place: "shop",
			Leaf: leaf, Fingerprint: certctl.DigestOf(leaf), NotAfter: time.Now().Add(time.Hour),
		}
		change(&c)
		encoded, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	same := func(*certctl.InstallCommand) {}
	command := func() certctl.Statement {
		return n.order(certctl.CommandInstall, certctl.ID{1}, 10, json.RawMessage(body(same)))
	}
	resigned := func(s certctl.Statement, change func(*certctl.InstallCommand)) certctl.Statement {
		return n.sign(n.command, s, json.RawMessage(body(change)))
	}
	_, strange := newEd25519(t)
	for name, alter := range map[string]func(*certctl.Statement){
		"domain":             func(s *certctl.Statement) { s.Domain = certctl.DomainAgent },
		"installation":       func(s *certctl.Statement) { s.Installation[0]++ },
		"agent":              func(s *certctl.Statement) { s.Agent[0]++ },
		"kind":               func(s *certctl.Statement) { s.Kind = certctl.CommandForget },
		"object":             func(s *certctl.Statement) { s.Object[0]++ },
		"number":             func(s *certctl.Statement) { s.Number++ },
		"time":               func(s *certctl.Statement) { s.Time = s.Time.Add(time.Second) },
		"key":                func(s *certctl.Statement) { s.Key = certctl.KeyID(n.platform.enrolled[0].Keys.Signing) },
		"body":               func(s *certctl.Statement) { s.Body = body(func(c *certctl.InstallCommand) { c.Place = "other" }) },
		"signature":          func(s *certctl.Statement) { s.Signature[0]++ },
		"no signature":       func(s *certctl.Statement) { s.Signature = nil },
		"unknown key":        func(s *certctl.Statement) { *s = n.sign(strange, *s, json.RawMessage(s.Body)) },
		"fleet key":          func(s *certctl.Statement) { *s = n.sign(n.fleet, *s, json.RawMessage(s.Body)) },
		"signed elsewhere":   func(s *certctl.Statement) { s.Installation[0]++; *s = resigned(*s, same) },
		"for another agent":  func(s *certctl.Statement) { s.Agent[0]++; *s = resigned(*s, same) },
		"signed as a report": func(s *certctl.Statement) { s.Domain = certctl.DomainAgent; *s = resigned(*s, same) },
		"before the key's time": func(s *certctl.Statement) {
			s.Time = time.Now().Add(-2 * time.Hour)
			*s = resigned(*s, same)
		},
		"after the key's time": func(s *certctl.Statement) {
			s.Time = time.Now().Add(2 * time.Hour)
			*s = resigned(*s, same)
		},
		"about another object": func(s *certctl.Statement) { s.Object[0]++; *s = resigned(*s, same) },
		"about nothing":        func(s *certctl.Statement) { s.Object = certctl.NoID; *s = resigned(*s, same) },
		"unknown kind":         func(s *certctl.Statement) { s.Kind = "dance"; *s = resigned(*s, same) },
		"another leaf": func(s *certctl.Statement) {
			*s = resigned(*s, func(c *certctl.InstallCommand) { c.Leaf = []byte("x") })
		},
		"place outside": func(s *certctl.Statement) { *s = resigned(*s, func(c *certctl.InstallCommand) { c.Place = "../etc" }) },
		"no target": func(s *certctl.Statement) {
			*s = resigned(*s, func(c *certctl.InstallCommand) { c.Target = certctl.NoID })
		},
		"no binding": func(s *certctl.Statement) {
			*s = resigned(*s, func(c *certctl.InstallCommand) { c.Binding = certctl.NoID })
		},
		"no end": func(s *certctl.Statement) {
			*s = resigned(*s, func(c *certctl.InstallCommand) { c.NotAfter = time.Time{} })
		},
		"body that is not JSON": func(s *certctl.Statement) { *s = n.sign(n.command, *s, "install") },
	} {
		s := command()
		s.Signature = slices.Clone(s.Signature)
		alter(&s)
		before := n.running.state.refused
		n.running.handle(certctl.Mailbox{Commands: []certctl.Statement{s}})
		n.running.lanes.group.Wait()
		if keys := n.running.journal.Keys(""); len(keys) != 0 || n.running.state.refused != before+1 {
			t.Fatalf("%s: journal %v, %d refused", name, keys, n.running.state.refused-before)
		}
	}
	if err := n.running.verify(command()); err != nil {
		t.Errorf("the unaltered command: %v", err)
	}
	if _, err := n.running.decode(command()); err != nil {
		t.Errorf("the unaltered command: %v", err)
	}
}

// An older description of a target does not replace a newer one, whatever it
// was signed with.
func TestTargetsDoNotGoBack(t *testing.T) {
	t.Parallel()
	n := idle(t)
	id := certctl.ID{1}
	describe := func(number int64, name string, at time.Time) certctl.Statement {
		return n.sign(n.command, certctl.Statement{
			Domain: certctl.DomainCommand, Agent: n.platform.agent, Kind: certctl.CommandTarget, Object: id, Number: number, Time: at,
		}, certctl.TargetCommand{Target: id, Name: name, Kind: "files"})
	}
	now := time.Now()
	for _, step := range []struct {
		statement certctl.Statement
		want      string
	}{
		{describe(2, "second", now), "second"},
		{describe(1, "first", now.Add(time.Minute)), "second"},
		{describe(2, "second, earlier", now.Add(-time.Minute)), "second"},
		{describe(2, "second, later", now.Add(time.Minute)), "second, later"},
		{describe(3, "third", now), "third"},
	} {
		n.running.handle(certctl.Mailbox{Commands: []certctl.Statement{step.statement}})
		var record targetRecord
		if !n.running.journal.Get(targetKey(id), &record) || record.Command.Name != step.want {
			t.Errorf("%q, want %q", record.Command.Name, step.want)
		}
	}
}

// The version of the trust document only rises, and only the pinned fleet key
// counts.
func TestTrustRefusesOthers(t *testing.T) {
	t.Parallel()
	n := idle(t)
	trust := n.running.trust
	offer := func(key []byte, version int64, change func(*certctl.TrustDocument)) (bool, error) {
		n.document.Version = version
		document := n.document
		change(&document)
		return trust.Accept(n.sign(key, certctl.Statement{Domain: certctl.DomainTrust, Kind: "trust"}, document))
	}
	same := func(*certctl.TrustDocument) {}
	_, strange := newEd25519(t)
	if _, err := offer(strange, 9, same); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("another fleet key: %v", err)
	}
	if _, err := offer(n.fleet, 9, func(d *certctl.TrustDocument) { d.Installation = certctl.ID{1} }); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("another installation: %v", err)
	}
	if _, err := offer(n.fleet, 9, func(d *certctl.TrustDocument) { d.CABundle = "x" }); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("no CA: %v", err)
	}
	for _, step := range []struct {
		version int64
		want    bool
	}{{1, false}, {3, true}, {2, false}, {3, false}, {4, true}} {
		if newer, err := offer(n.fleet, step.version, same); newer != step.want || err != nil {
			t.Errorf("version %d: %t, %v", step.version, newer, err)
		}
	}
}

// Whatever an answer holds, it makes no work without a command key's signature.
func FuzzMailbox(f *testing.F) {
	f.Add([]byte(`{"commands":[{"domain":"certctl/v1/command","kind":"install","body":"e30=","signature":"AA=="}],"trust":{},"next_after":"1m"}`))
	f.Add([]byte(`{"commands":[{}]}`))
	n := idle(f)
	f.Fuzz(func(t *testing.T, answer []byte) {
		var mailbox certctl.Mailbox
		if json.Unmarshal(answer, &mailbox) != nil {
			return
		}
		n.running.handle(mailbox)
		if keys := n.running.journal.Keys(""); len(keys) != 0 {
			t.Errorf("journal %v", keys)
		}
	})
}

// A signed body can be anything a server with a fault might send: it is decoded
// or refused, and what is decoded is about the object that was signed.
func FuzzCommandBody(f *testing.F) {
	n := idle(f)
	for _, kind := range []string{certctl.CommandInstall, certctl.CommandMakeKey, certctl.CommandForget} {
		f.Add(kind, []byte(`{"deployment":"01890000-0000-7000-8000-000000000000","names":{"dns_names":["a"]},"not_after":"2030-01-01T00:00:00Z"}`))
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		s := certctl.Statement{Kind: kind, Object: certctl.ID{1}, Number: 1, Body: body}
		j, err := n.running.decode(s)
		if err != nil {
			return
		}
		if j.subject().IsZero() || (j.lane().IsZero() && j.key == nil) {
			t.Errorf("decoded to %+v", j)
		}
	})
}
