package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

func TestARetiredAgentIsDroppedAndStaysOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(s.identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	retired := mustConnect(t, s, token, pair, bus.InboxPrefix(id.String()), id)
	other := s.agent(t)

	s.facts.Retired = append(s.facts.Retired, certctl.RetiredAgent{Key: public, At: time.Now()})
	began := time.Now()
	s.update(t)
	retired.ended(t, nats.ErrAuthRevoked)
	if took := time.Since(began); took > time.Second {
		t.Errorf("dropped after %s", took)
	} else {
		t.Logf("dropped after %s", took)
	}
	if _, err := s.connect(token, pair, bus.InboxPrefix(id.String())); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("logged in again: %v", err)
	}
	other.quiet(t)
	if !other.IsConnected() {
		t.Error("another agent was dropped, too")
	}
	// Every later document names the key, too, until its credentials have ended.
	s.update(t)
	if _, err := s.connect(token, pair, bus.InboxPrefix(id.String())); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("logged in again: %v", err)
	}
}

func TestARevokedReaderIsDroppedAndStaysOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	revoked, other := s.reader(t), s.reader(t)
	text, err := bus.ReaderCredentials(s.identity, s.facts.Readers[0], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.facts.Readers[0].RevokedAt = time.Now()
	s.update(t)
	revoked.ended(t, nats.ErrAuthRevoked)
	token, seed, err := bus.ParseCredentials([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.connect(token, pair, bus.InboxPrefix(revoked.id.String())); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("logged in again: %v", err)
	}
	publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "x"), "x")
	message, err := other.consumer(t).Next(jetstream.FetchMaxWait(patience))
	if err != nil || string(message.Data()) != "x" {
		t.Errorf("another reader: %v", err)
	}
}

func TestExpiredCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(s.identity, id, public, time.Now().Add(-bus.UserLife-time.Second), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.connect(token, pair, bus.InboxPrefix(id.String())); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("logged in with expired credentials: %v", err)
	}
	if token, err = bus.AgentJWT(s.identity, id, public, time.Now(), 2*time.Second); err != nil {
		t.Fatal(err)
	}
	live := mustConnect(t, s, token, pair, bus.InboxPrefix(id.String()), id)
	live.ended(t, nats.ErrAuthExpired)
}

// What nobody of ours signed is worth nothing.
func TestForgedCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stranger, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	foreign, err := bus.AgentJWT(stranger, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{"another installation's": foreign}
	for name, forge := range map[string]func(*jwt.UserClaims) string{
		"an agent's in the platform's account": func(c *jwt.UserClaims) string {
			c.SetScoped(true)
			c.IssuerAccount = s.identity.Account(bus.AccountPlatform)
			return "agent"
		},
		"an agent's with permissions of its own": func(c *jwt.UserClaims) string {
			c.SetScoped(true)
			c.IssuerAccount = s.identity.Account(bus.AccountAgents)
			c.Permissions.Sub.Allow.Add(">")
			return "agent"
		},
		"one of the account's own key": func(c *jwt.UserClaims) string {
			c.Permissions.Sub.Allow.Add(">")
			return "account-AGENTS"
		},
		"a bearer's": func(c *jwt.UserClaims) string {
			c.SetScoped(true)
			c.IssuerAccount = s.identity.Account(bus.AccountAgents)
			c.BearerToken = true
			return "agent"
		},
	} {
		claims := jwt.NewUserClaims(public)
		claims.Name = id.String()
		key := forge(claims)
		if tokens[name], err = claims.Encode(s.pair(t, key)); err != nil {
			t.Fatal(err)
		}
	}
	for name, token := range tokens {
		if _, err := s.connect(token, pair, bus.InboxPrefix(id.String())); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s credentials: %v", name, err)
		}
	}
	good, err := bus.AgentJWT(s.identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	wrong, _ := newUser(t)
	if _, err := s.connect(good, wrong, bus.InboxPrefix(id.String())); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a JWT without its key: %v", err)
	}
}

// What the roles may do is enough for what they do, and no more than that.
func TestRolesOnARealBroker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	agent := s.agent(t)
	worker, signer, api := s.role(t, bus.RoleWorker), s.role(t, bus.RoleSigner), s.role(t, bus.RoleAPI)
	respond := func(from *client, subject, answer string) {
		t.Helper()
		if _, err := from.QueueSubscribe(subject, "q", func(message *nats.Msg) {
			if err := message.Respond([]byte(answer)); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		flush(t, from.Conn)
	}
	respond(worker, "certctl.v1.agent.*.ask.report", "recorded")
	respond(signer, "certctl.v1.agent.*.ask.mailbox", "mailbox")
	respond(signer, "certctl.v1.svc.signer.*", "signed")
	for _, ask := range []struct {
		from          *client
		subject, want string
	}{
		{agent, bus.SubjectAskReport(agent.id), "recorded"},
		{agent, bus.SubjectAskMailbox(agent.id), "mailbox"},
		{api, bus.SubjectSigner("enroll"), "signed"},
	} {
		answer, err := ask.from.Request(ask.subject, nil, patience)
		if err != nil || string(answer.Data) != ask.want {
			t.Errorf("%s: %v", ask.subject, err)
		}
	}
	// The bell tells whether the agent hears it.
	if _, err := api.Request(bus.SubjectBell(agent.id), nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a bell that nobody hears: %v", err)
	}
	respond(agent, bus.SubjectCommands(agent.id), "")
	if err := api.PublishRequest(bus.SubjectBell(agent.id), bus.InboxPrefix("api")+".x", nil); err != nil {
		t.Fatal(err)
	}
	agent.refused(t, "Publish to", bus.InboxPrefix("api")+".x") // it heard, and may not answer

	// A responder with the worker's own rights cannot be made to answer elsewhere,
	// not even by somebody within.
	if err := s.root.PublishRequest(bus.SubjectAskReport(agent.id), "$JS.API.STREAM.DELETE.CERTCTL_EVENT", nil); err != nil {
		t.Fatal(err)
	}
	worker.refused(t, "Publish to", "$JS.API.STREAM.DELETE.CERTCTL_EVENT")
	for _, c := range []*client{worker, signer, api, s.role(t, bus.RoleScheduler)} {
		for _, subject := range []string{
			"$JS.API.STREAM.DELETE.CERTCTL_EVENT", "$JS.API.STREAM.PURGE.CERTCTL_EVENT", "$SYS.REQ.CLAIMS.UPDATE", bus.SubjectAskReport(agent.id),
		} {
			if err := c.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
			c.refused(t, "Publish to", subject)
		}
	}
}
