package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// consumer opens the reader's own consumer, as a reader's program would.
func (c *client) consumer(t *testing.T) jetstream.Consumer {
	t.Helper()
	js, err := jetstream.NewWithAPIPrefix(c.Conn, bus.ReaderAPIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), bus.StreamEvent, bus.ReaderConsumer(c.id))
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}

// fetch takes one event.
func fetch(t *testing.T, consumer jetstream.Consumer) jetstream.Msg {
	t.Helper()
	message, err := consumer.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestReadersFetchAndAcknowledge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	reader := s.reader(t)
	subject := bus.SubjectEvent("default", certctl.AggregateCertificate, certctl.EventCertificateIssued)
	for i := range 20 {
		publish(t, s, subject, fmt.Sprint(i))
	}
	consumer := reader.consumer(t)
	batch, err := consumer.Fetch(10, jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for message := range batch.Messages() {
		if message.Subject() != subject || string(message.Data()) != fmt.Sprint(got) {
			t.Errorf("event %d is %s %q", got, message.Subject(), message.Data())
		}
		if err := message.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		got++
	}
	if got != 10 {
		t.Errorf("got %d events", got)
	}
	info, err := consumer.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.NumPending != 10 || info.NumAckPending != 0 || info.AckFloor.Stream != 10 {
		t.Errorf("after 10 of 20 events: %+v", info)
	}
	reader.quiet(t)
}

func TestReadersFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	reader := s.reader(t)
	got := make(chan string, 8)
	consuming, err := reader.consumer(t).Consume(func(message jetstream.Msg) {
		got <- string(message.Data())
		if err := message.Ack(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer consuming.Stop()
	for i := range 3 {
		publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "x"), fmt.Sprint(i))
		if event := receive(t, got, "event"); event != fmt.Sprint(i) {
			t.Errorf("event %d is %s", i, event)
		}
	}
}

func TestStolenReaderCredentialsReachNothingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.reader(t), s.reader(t)
	agent := s.agent(t)
	s.fill(t)
	held := fetch(t, victim.consumer(t))
	before := s.state(t)
	for _, subject := range []string{
		">", "*.>", "certctl.>", "certctl.v1.event.>", "certctl.v1.intent.>", "certctl.v1.agent.>", bus.SubjectCommands(agent.id),
		"_INBOX.>", "_INBOX.*.>", bus.InboxPrefix(victim.id.String()) + ".>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$SYS.>", "_R_.>",
		bus.ReaderAPIPrefix + ".>", "$JS.EVENT.>",
	} {
		if _, err := thief.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Subscription to", subject)
	}
	other := bus.ReaderConsumer(victim.id)
	own := bus.ReaderConsumer(thief.id)
	publishes := append(forbiddenPublishes(s, victim.id),
		"$JS.API.CONSUMER.INFO.CERTCTL_EVENT."+own, "$JS.API.CONSUMER.MSG.NEXT.CERTCTL_EVENT."+own,
		"$JS.API.CONSUMER.INFO.CERTCTL_EVENT."+other, "$JS.API.CONSUMER.MSG.NEXT.CERTCTL_EVENT."+other,
		bus.ReaderAPIPrefix+".CONSUMER.DELETE.CERTCTL_EVENT."+own, bus.ReaderAPIPrefix+".CONSUMER.CREATE.CERTCTL_EVENT."+own,
		bus.ReaderAPIPrefix+".CONSUMER.MSG.NEXT.CERTCTL_INTENT.issue_-", bus.ReaderAPIPrefix+".STREAM.INFO.CERTCTL_EVENT",
		bus.ReaderAPIPrefix+".STREAM.MSG.GET.CERTCTL_EVENT", held.Reply(), bus.SubjectAskMailbox(agent.id),
	)
	for _, subject := range publishes {
		if err := thief.PublishRequest(subject, bus.InboxPrefix(thief.id.String())+".x", nil); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Publish to", subject)
	}
	if after := s.state(t); after != before {
		t.Errorf("changed: %s", cmp.Diff(before, after))
	}
	if err := held.DoubleAck(t.Context()); err != nil {
		t.Errorf("the victim cannot acknowledge: %v", err)
	}
}

// Each thing that a reader may publish, with a reply where it may not. Only the
// reader's own consumer moves.
func TestAnswersToReadersGoNowhereElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	thief, victim := s.reader(t), s.reader(t)
	agent := s.agent(t)
	rung := make(chan *nats.Msg, 16)
	if _, err := agent.ChanSubscribe(bus.SubjectCommands(agent.id), rung); err != nil {
		t.Fatal(err)
	}
	flush(t, agent.Conn)
	s.fill(t)
	for range 60 {
		publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "x"), `{"batch":5}`)
	}
	held := fetch(t, victim.consumer(t))
	before := s.stateWithout(t, thief)

	replies := elsewhere(agent.id)
	replies["another reader's next"] = bus.ReaderAPIPrefix + ".CONSUMER.MSG.NEXT.CERTCTL_EVENT." + bus.ReaderConsumer(victim.id)
	replies["another reader's info"] = bus.ReaderAPIPrefix + ".CONSUMER.INFO.CERTCTL_EVENT." + bus.ReaderConsumer(victim.id)
	replies["another reader's inbox"] = bus.InboxPrefix(victim.id.String()) + ".x"
	own := bus.ReaderConsumer(thief.id)
	for name, reply := range replies {
		mine := fetch(t, thief.consumer(t))
		for _, request := range []struct{ subject, body string }{
			{bus.ReaderAPIPrefix + ".CONSUMER.INFO.CERTCTL_EVENT." + own, ""},
			{bus.ReaderAPIPrefix + ".CONSUMER.MSG.NEXT.CERTCTL_EVENT." + own, `{"batch":1,"no_wait":true}`},
			{mine.Reply(), "+NXT"},
			{mine.Reply(), "+ACK"},
		} {
			if err := thief.PublishRequest(request.subject, reply, []byte(request.body)); err != nil {
				t.Fatal(err)
			}
		}
		thief.quiet(t)
		if _, err := thief.consumer(t).Info(t.Context()); err != nil { // after what was asked before
			t.Fatal(err)
		}
		if after := s.stateWithout(t, thief); after != before {
			t.Errorf("%s: changed: %s", name, cmp.Diff(before, after))
		}
	}
	for _, request := range []string{bus.ReaderAPIPrefix + ".CONSUMER.MSG.NEXT.CERTCTL_EVENT." + own, fetch(t, thief.consumer(t)).Reply()} {
		if err := thief.PublishRequest(request, held.Reply(), nil); err != nil {
			t.Fatal(err)
		}
		thief.refused(t, "Publish with Reply of", held.Reply())
	}
	agent.hears(t, s, rung)
	if err := held.DoubleAck(t.Context()); err != nil {
		t.Errorf("the victim cannot acknowledge: %v", err)
	}

	// The same in the platform's account, where nothing stands between.
	before = s.stateWithout(t, thief)
	if err := s.root.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.CERTCTL_EVENT."+own, replies["an intent"], []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); s.stateWithout(t, thief) == before; {
		if time.Now().After(deadline) {
			t.Fatal("the attack does nothing even from within: this test proves nothing")
		}
	}
}

// stateWithout is the state without the reader's own consumer.
func (s *site) stateWithout(t *testing.T, reader *client) string {
	t.Helper()
	return s.stateBut(t, bus.ReaderConsumer(reader.id))
}
