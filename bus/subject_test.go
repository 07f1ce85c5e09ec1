package bus_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// safe fails unless a subject is made of plain tokens.
func safe(t *testing.T, subject string) {
	t.Helper()
	for _, token := range strings.Split(subject, ".") {
		if token == "" || strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			t.Errorf("%q has the token %q", subject, token)
		}
	}
}

func FuzzSubjects(f *testing.F) {
	for _, text := range []string{"", "*", ">", "a.b", "_x", "_x2a", "platform", "Zürich", "-", "\x00", " ", "_INBOX"} {
		f.Add(text, "certificate", text, []byte("0123456789abcdef"))
	}
	f.Fuzz(func(t *testing.T, a, b, c string, raw []byte) {
		intent := bus.SubjectIntent(certctl.HintVerb(a), b)
		safe(t, intent)
		if verb, lane, ok := bus.ParseIntent(intent); !ok || string(verb) != a || lane != b {
			t.Errorf("%q is read as %q, %q, %v", intent, verb, lane, ok)
		}
		event := bus.SubjectEvent(a, certctl.Aggregate(b), certctl.EventName(c))
		safe(t, event)
		if team, aggregate, name, ok := bus.ParseEvent(event); !ok || team != a || string(aggregate) != b || string(name) != c {
			t.Errorf("%q is read as %q, %q, %q, %v", event, team, aggregate, name, ok)
		}
		signer := bus.SubjectSigner(a)
		safe(t, signer)
		if verb, ok := bus.ParseSigner(signer); !ok || verb != a {
			t.Errorf("%q is read as %q, %v", signer, verb, ok)
		}
		safe(t, bus.InboxPrefix(a))
		safe(t, bus.ConsumerName(certctl.HintVerb(a), b))
		var id certctl.ID
		copy(id[:], raw)
		checkAgentSubjects(t, id)
		checkInverses(t, a)
	})
}

func checkAgentSubjects(t *testing.T, id certctl.ID) {
	t.Helper()
	for kind, subject := range map[string]string{"mailbox": bus.SubjectAskMailbox(id), "report": bus.SubjectAskReport(id)} {
		safe(t, subject)
		if agent, got, ok := bus.ParseAsk(subject); !ok || agent != id || got != kind {
			t.Errorf("%q is read as %s, %q, %v", subject, agent, got, ok)
		}
	}
	safe(t, bus.SubjectBell(id))
	if agent, ok := bus.ParseBell(bus.SubjectBell(id)); !ok || agent != id {
		t.Errorf("the bell of %s is read as that of %s, %v", id, agent, ok)
	}
	safe(t, bus.ReaderConsumer(id))
}

// checkInverses holds that an inverse reads only what its function makes.
func checkInverses(t *testing.T, subject string) {
	t.Helper()
	if verb, lane, ok := bus.ParseIntent(subject); ok && bus.SubjectIntent(verb, lane) != subject {
		t.Errorf("%q is read as an intent that is another subject", subject)
	}
	if team, aggregate, name, ok := bus.ParseEvent(subject); ok && bus.SubjectEvent(team, aggregate, name) != subject {
		t.Errorf("%q is read as an event that is another subject", subject)
	}
	if agent, ok := bus.ParseBell(subject); ok && bus.SubjectBell(agent) != subject {
		t.Errorf("%q is read as a bell that is another subject", subject)
	}
	if agent, kind, ok := bus.ParseAsk(subject); ok && !strings.HasSuffix(bus.SubjectAskMailbox(agent)+" "+bus.SubjectAskReport(agent), kind) {
		t.Errorf("%q is read as an unknown request", subject)
	}
}

func TestSubjectsThatNobodyMakesAreNotRead(t *testing.T) {
	t.Parallel()
	id := "0190aaaa-0000-7000-8000-000000000001"
	for _, subject := range []string{
		"certctl.v1.agent.*.ask.report", "certctl.v1.agent.>.ask.report", "certctl.v1.agent." + strings.ToUpper(id) + ".ask.report",
		"certctl.v1.agent." + id + ".ask.other", "certctl.v1.agent." + id + ".x.ask.report", "x.certctl.v1.agent." + id + ".ask.report",
	} {
		if agent, kind, ok := bus.ParseAsk(subject); ok {
			t.Errorf("%q is read as %s of %s", subject, kind, agent)
		}
	}
	for _, subject := range []string{"certctl.v1.intent.issue", "certctl.v1.intent.issue.a.b", "certctl.v1.intent.issue._x61", "certctl.v1.intent.*.-"} {
		if verb, lane, ok := bus.ParseIntent(subject); ok {
			t.Errorf("%q is read as %q, %q", subject, verb, lane)
		}
	}
}

func TestEventFilters(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"certctl.v1.event.*.>":             bus.SubjectEvents("", ""),
		"certctl.v1.event.web.>":           bus.SubjectEvents("web", ""),
		"certctl.v1.event.*.certificate.>": bus.SubjectEvents("", certctl.AggregateCertificate),
		"certctl.v1.event._x2a.agent.>":    bus.SubjectEvents("*", certctl.AggregateAgent),
	} {
		if got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}
