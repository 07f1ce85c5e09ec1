package broker_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// What a thief of credentials can do on a real broker: nothing that is not his,
// directly (the broker refuses, and says so) or by having an answer sent
// elsewhere (nothing comes of it). Each way that must not work is also gone by
// somebody who may, so that a test that sees nothing would be noticed.

func TestStolenAgentCredentialsSubscribeToNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.agent(t), s.agent(t)
	for _, subject := range []string{
		bus.SubjectCommands(victim.id), bus.SubjectBell(victim.id), "certctl.v1.agent.*.cmd.>", "certctl.v1.agent.*.cmd.bell", "certctl.v1.agent.>",
		bus.SubjectAskMailbox(victim.id), bus.SubjectAskReport(victim.id), bus.SubjectAskReport(thief.id), "certctl.v1.agent.*.ask.*",
		">", "*", "*.>", "certctl.>", "certctl.v1.>", "certctl.v1.void.>",
		"_INBOX.>", "_INBOX.*", "_INBOX.*.>", bus.InboxPrefix(victim.id.String()) + ".>", bus.InboxPrefix(victim.id.String()) + ".*", "_INBOX.api.>",
		"certctl.v1.intent.>", bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), "certctl.v1.event.>",
		bus.SubjectEvents("default", certctl.AggregateCertificate), "certctl.v1.svc.signer.*", bus.SubjectSigner("enroll"), bus.ReaderAPIPrefix + ".>",
		"$JS.API.>", "$JS.>", "$JS.ACK.>", "$JS.EVENT.ADVISORY.>", "$SYS.>", "$SYS.ACCOUNT.>", "$SYS.REQ.>", "_R_.>", "_R_.*.*", "$G.>",
	} {
		if _, err := thief.Subscribe(subject, func(message *nats.Msg) { t.Errorf("%s brought %s", subject, message.Subject) }); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Subscription to", subject)
	}
	if _, err := thief.QueueSubscribe(bus.SubjectCommands(victim.id), "q", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	thief.refused(t, "Subscription to", bus.SubjectCommands(victim.id))
	if _, err := thief.Subscribe(bus.SubjectCommands(thief.id), func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	thief.quiet(t)
	// Had one of the subscriptions been made, these would come through it.
	for _, subject := range []string{
		bus.SubjectBell(victim.id), bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), bus.SubjectEvent("default", certctl.AggregateAgent, "x"),
	} {
		if err := s.root.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, s.root)
	flush(t, thief.Conn)
}

func TestStolenAgentCredentialsPublishNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.agent(t), s.agent(t)
	publish(t, s, bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), "hint")
	publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "x"), "event")
	before := s.state(t)
	for _, subject := range forbiddenPublishes(s, victim.id) {
		if err := thief.PublishRequest(subject, bus.InboxPrefix(thief.id.String())+".x", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Publish to", mapped(subject))
	}
	for _, own := range []string{bus.SubjectBell(thief.id), "certctl.v1.agent." + thief.id.String() + ".ask", "certctl.v1.agent." + thief.id.String() + ".ask.mailbox.x"} {
		if err := thief.Publish(own, nil); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Publish to", mapped(own))
	}
	if after := s.state(t); after != before {
		t.Errorf("changed: %s", cmp.Diff(before, after))
	}
}

// mapped is what the agents' account makes of a command subject before it looks
// at permissions.
func mapped(subject string) string {
	if agent, ok := bus.ParseBell(subject); ok {
		return "certctl.v1.void." + agent.String() + ".bell"
	}
	return subject
}

// forbiddenPublishes is what nobody outside the platform may say.
func forbiddenPublishes(s *site, victim certctl.ID) []string {
	platform := s.identity.Account(bus.AccountPlatform)
	return []string{
		bus.SubjectAskMailbox(victim), bus.SubjectAskReport(victim), bus.SubjectBell(victim),
		bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), bus.SubjectIntent(certctl.HintRevoke, victim.String()),
		bus.SubjectEvent("default", certctl.AggregateCertificate, certctl.EventCertificateIssued), bus.SubjectSigner("enroll"), bus.SubjectSigner("credentials"),
		"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.INFO.CERTCTL_EVENT",
		"$JS.API.STREAM.UPDATE.CERTCTL_EVENT", "$JS.API.STREAM.PURGE.CERTCTL_EVENT", "$JS.API.STREAM.PURGE.CERTCTL_INTENT",
		"$JS.API.STREAM.DELETE.CERTCTL_EVENT", "$JS.API.STREAM.DELETE.CERTCTL_INTENT", "$JS.API.STREAM.MSG.GET.CERTCTL_EVENT",
		"$JS.API.STREAM.MSG.DELETE.CERTCTL_EVENT", "$JS.API.STREAM.SNAPSHOT.CERTCTL_EVENT", "$JS.API.STREAM.LEADER.STEPDOWN.CERTCTL_EVENT",
		"$JS.API.DIRECT.GET.CERTCTL_EVENT", "$JS.API.DIRECT.GET.CERTCTL_EVENT.certctl.v1.event.a.b.c", "$JS.API.CONSUMER.LIST.CERTCTL_EVENT",
		"$JS.API.CONSUMER.NAMES.CERTCTL_EVENT", "$JS.API.CONSUMER.CREATE.CERTCTL_EVENT", "$JS.API.CONSUMER.CREATE.CERTCTL_EVENT.x",
		"$JS.API.CONSUMER.DURABLE.CREATE.CERTCTL_EVENT.x", "$JS.API.CONSUMER.INFO.CERTCTL_INTENT.issue_-",
		"$JS.API.CONSUMER.MSG.NEXT.CERTCTL_INTENT.issue_-", "$JS.API.CONSUMER.DELETE.CERTCTL_INTENT.issue_-", "$JS.API.META.LEADER.STEPDOWN",
		"$JS.ACK.CERTCTL_INTENT.issue_-.1.1.1.1.0", "$JS.ACK.x", "$JS.FC.x",
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.LIST", "$SYS.REQ.ACCOUNT.PING.CONNZ",
		"$SYS.REQ.ACCOUNT." + platform + ".CLAIMS.LOOKUP", "$SYS.REQ.ACCOUNT." + platform + ".INFO", "$SYS.ACCOUNT." + platform + ".CLAIMS.UPDATE",
		"_R_.abcdef.abcdef", "_INBOX.api.x", "_INBOX.x", bus.InboxPrefix(victim.String()) + ".x", "anything",
		bus.ReaderAPIPrefix + ".CONSUMER.MSG.NEXT.CERTCTL_EVENT." + bus.ReaderConsumer(victim),
		bus.ReaderAPIPrefix + ".CONSUMER.INFO.CERTCTL_EVENT." + bus.ReaderConsumer(victim),
	}
}

// A header can ask the broker to tell the way of a message to a subject.
func TestStolenAgentCredentialsTraceNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.agent(t), s.agent(t)
	asked := naiveResponder(t, s)
	before := s.state(t)
	for _, destination := range []string{
		bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), bus.SubjectEvent("default", certctl.AggregateSystem, "x"),
		bus.SubjectBell(victim.id), "$JS.API.STREAM.DELETE.CERTCTL_EVENT",
	} {
		for _, header := range []nats.Header{{"Nats-Trace-Dest": {destination}}, {"Nats-Trace-Dest": {destination}, "Nats-Trace-Only": {"true"}}} {
			if err := thief.PublishMsg(&nats.Msg{Subject: bus.SubjectAskReport(thief.id), Header: header}); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-thief.violations:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Errorf("trace to %s: the broker says %v", destination, err)
				}
			case <-time.After(patience):
				t.Errorf("trace to %s: not refused", destination)
			}
		}
	}
	flush(t, thief.Conn)
	drain(asked)
	if after := s.state(t); after != before {
		t.Errorf("changed: %s", cmp.Diff(before, after))
	}
}

func TestAgentsAreHeldToTheirLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	many := s.agent(t)
	for range 50 {
		if _, err := many.Subscribe(bus.SubjectCommands(many.id), func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := receive(t, many.violations, "refusal of many subscriptions"); !strings.Contains(err.Error(), "subscriptions") {
		t.Errorf("the broker says %v", err)
	}
	large := s.agent(t)
	asked := naiveResponder(t, s)
	if err := large.Publish(bus.SubjectAskReport(large.id), make([]byte, 256<<10)); err != nil {
		t.Fatal(err)
	}
	receive(t, asked, "question of 256 KiB")
	if err := large.Publish(bus.SubjectAskReport(large.id), make([]byte, 256<<10+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("the library was not told the limit: %v", err)
	}
}

// A thief's own client need not heed the limit that it is told.
func TestTheBrokerEndsConnectionsThatSendTooMuch(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(s.identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.broker.URL(), "tls://"), &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	signature, err := pair.Sign([]byte(info.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "CONNECT {\"jwt\":%q,\"sig\":%q}\r\nPUB %s %d\r\n",
		token, base64.RawURLEncoding.EncodeToString(signature), bus.SubjectAskReport(id), 256<<10+1)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "-ERR 'Maximum Payload Violation'") {
		t.Errorf("the broker says %q, %v", rest, err)
	}
}

// naiveResponder answers every question of agents, whatever its reply is, with
// all rights of the platform's account: the worst that a responder can be. The
// channel gets a value for each answer, after the broker has carried it out.
func naiveResponder(t *testing.T, s *site) <-chan string {
	t.Helper()
	answered := make(chan string, 64)
	nc := s.connectRoot(t)
	_, err := nc.QueueSubscribe("certctl.v1.agent.*.ask.*", "naive", func(message *nats.Msg) {
		if message.Reply != "" {
			if err := message.Respond([]byte(`{}`)); err != nil {
				t.Error(err)
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Error(err)
			}
		}
		answered <- message.Reply
	})
	if err != nil {
		t.Fatal(err)
	}
	flush(t, nc)
	return answered
}

func drain(answered <-chan string) {
	for {
		select {
		case <-answered:
		default:
			return
		}
	}
}

// elsewhere are replies that would do harm if an answer were sent there.
func elsewhere(victim certctl.ID) map[string]string {
	return map[string]string{
		"another agent's bell":    bus.SubjectBell(victim),
		"another agent's command": strings.TrimSuffix(bus.SubjectCommands(victim), ">") + "x",
		"an intent":               bus.SubjectIntent(certctl.HintIssue, certctl.NoLane),
		"an event":                bus.SubjectEvent("default", certctl.AggregateCertificate, certctl.EventCertificateIssued),
		"purge of the events":     "$JS.API.STREAM.PURGE.CERTCTL_EVENT",
		"deletion of the events":  "$JS.API.STREAM.DELETE.CERTCTL_EVENT",
		"deletion of the intents": "$JS.API.STREAM.DELETE.CERTCTL_INTENT",
		"deletion of a consumer":  "$JS.API.CONSUMER.DELETE.CERTCTL_INTENT.issue_-",
	}
}

// Each thing that an agent may publish, with a reply where it may not.
func TestAnswersToAgentsGoNowhereElse(t *testing.T) {
	t.Parallel()
	for name := range elsewhere(certctl.NoID) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			thief, victim := s.agent(t), s.agent(t)
			asked := naiveResponder(t, s)
			rung := make(chan *nats.Msg, 16)
			if _, err := victim.ChanSubscribe(bus.SubjectCommands(victim.id), rung); err != nil {
				t.Fatal(err)
			}
			flush(t, victim.Conn)
			s.fill(t)
			before, reply := s.state(t), elsewhere(victim.id)[name]

			for _, ask := range []string{bus.SubjectAskMailbox(thief.id), bus.SubjectAskReport(thief.id)} {
				if err := thief.PublishRequest(ask, reply, []byte(`{}`)); err != nil {
					t.Fatal(err)
				}
				if seen := receive(t, asked, "question"); !strings.HasPrefix(seen, "_R_.") {
					t.Errorf("the responder saw the reply %q", seen)
				}
			}
			thief.quiet(t)
			if after := s.state(t); after != before {
				t.Errorf("changed: %s", cmp.Diff(before, after))
			}
			victim.hears(t, s, rung)
			if after := s.state(t); after != before {
				t.Errorf("changed later: %s", cmp.Diff(before, after))
			}

			// The same in the platform's account, where nothing stands between.
			if err := s.root.PublishRequest(bus.SubjectAskReport(thief.id), reply, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			if seen := receive(t, asked, "question"); seen != reply {
				t.Errorf("the responder saw the reply %q", seen)
			}
			if strings.HasPrefix(reply, "certctl.v1.agent.") {
				if got := receive(t, rung, "command"); got.Subject != reply || string(got.Data) != `{}` {
					t.Errorf("got %s %q", got.Subject, got.Data)
				}
			} else {
				s.awaitChange(t, before)
			}
		})
	}
}

// awaitChange waits until the state is another one: the broker deletes and purges
// after it has answered.
func (s *site) awaitChange(t *testing.T, before string) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.state(t) == before; {
		if time.Now().After(deadline) {
			t.Fatal("the attack does nothing even from within: this test proves nothing")
		}
	}
}

// fill puts something into both streams, and makes a consumer of hints.
func (s *site) fill(t *testing.T) {
	t.Helper()
	for range 3 {
		publish(t, s, bus.SubjectIntent(certctl.HintIssue, certctl.NoLane), "hint")
		publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "x"), "event")
	}
	config := jetstream.ConsumerConfig{Durable: bus.ConsumerName(certctl.HintIssue, certctl.NoLane), AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := s.js.CreateConsumer(t.Context(), bus.StreamIntent, config); err != nil {
		t.Fatal(err)
	}
}

// hears asserts that a bell of the platform is the first thing that arrives.
func (c *client) hears(t *testing.T, s *site, rung <-chan *nats.Msg) {
	t.Helper()
	if err := s.root.PublishRequest(bus.SubjectBell(c.id), "_INBOX.bell", nil); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, rung, "bell"); got.Subject != bus.SubjectBell(c.id) || got.Reply != "_INBOX.bell" || len(got.Data) > 0 {
		t.Errorf("another agent got %s %q with reply %q", got.Subject, got.Data, got.Reply)
	}
}

// A reply cannot name what only the broker makes.
func TestRepliesOfTheBrokersOwnKindAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief := s.agent(t)
	for _, reply := range []string{"_R_.abcdef.abcdef", "$JS.ACK.CERTCTL_INTENT.issue_-.1.1.1.1.0"} {
		if err := thief.PublishRequest(bus.SubjectAskMailbox(thief.id), reply, nil); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Publish with Reply of", reply)
	}
}

// The answer to one's own question, sent to another agent as if it had asked:
// it neither asks in the other's name nor takes the place of the other's answer.
func TestAnswersDoNotImpersonateAnAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.agent(t), s.agent(t)
	subjects := make(chan string, 16)
	nc := s.connectRoot(t)
	if _, err := nc.Subscribe("certctl.v1.agent.*.ask.*", func(message *nats.Msg) {
		subjects <- message.Subject
		if err := message.Respond([]byte(message.Subject)); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	flush(t, nc)
	for _, reply := range []string{bus.SubjectAskReport(victim.id), bus.SubjectAskMailbox(victim.id), bus.InboxPrefix(victim.id.String()) + ".x"} {
		if err := thief.PublishRequest(bus.SubjectAskReport(thief.id), reply, nil); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, subjects, "question"); got != bus.SubjectAskReport(thief.id) {
			t.Errorf("asked in the name of another: %s", got)
		}
	}
	flush(t, nc)
	answer, err := victim.Request(bus.SubjectAskMailbox(victim.id), nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	if string(answer.Data) != bus.SubjectAskMailbox(victim.id) {
		t.Errorf("the victim's answer is %q", answer.Data)
	}
	if got := receive(t, subjects, "question"); got != bus.SubjectAskMailbox(victim.id) {
		t.Errorf("asked %s in between", got)
	}
}

// If a name like a wildcard were ever signed, this is what it would be worth:
// the reason for the check in the credential functions.
func TestAUserNamedLikeAWildcardWouldHearEverybody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pair, public := newUser(t)
	claims := jwt.NewUserClaims(public)
	claims.SetScoped(true)
	claims.Name, claims.IssuerAccount = "*", s.identity.Account(bus.AccountAgents)
	token, err := claims.Encode(s.pair(t, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	forged := mustConnect(t, s, token, pair, "_INBOX.x", certctl.NoID)
	if _, err := forged.Subscribe("certctl.v1.agent.*.cmd.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	forged.quiet(t)
}
