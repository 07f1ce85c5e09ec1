package bus_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// add writes golden files that are missing. Files that exist are never changed:
// messages of that form may be on the bus when a new release starts.
var add = flag.Bool("add-golden", false, "write missing golden files")

// golden is a message as a file.
type golden struct {
	Subject string              `json:"subject,omitempty"`
	Header  map[string][]string `json:"header"`
	Body    json.RawMessage     `json:"body"`
}

var (
	someID    = certctl.ID{0x01, 0x90, 0xaa, 0xaa, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}
	otherID   = certctl.ID{0x01, 0x90, 0xaa, 0xaa, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 2}
	someTime  = time.Date(2026, 11, 23, 12, 30, 0, 123456000, time.UTC)
	someEvent = certctl.Event{
		ID: someID, Time: someTime, Team: "Zürich 1", Aggregate: certctl.AggregateCertificate, Object: otherID, Sequence: 7,
		Name: certctl.EventCertificateIssued, Actor: "system", ActorKind: certctl.PrincipalSystem, Outcome: certctl.OutcomeSuccess,
		RequestID: "r-1", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Data: json.RawMessage(`{"serial":"01"}`),
	}
	someStatement = certctl.Statement{
		Domain: certctl.DomainAgent, Installation: someID, Agent: otherID, Kind: certctl.ReportCSR, Object: someID, Number: 3,
		Time: someTime.Truncate(time.Second), Key: "0011223344556677", Body: []byte(`{"csr":"AA=="}`), Signature: []byte{1, 2, 3},
	}
)

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	failure := certctl.Errorf(certctl.RateLimited, "too many requests").WithRemedy("wait")
	failure.RetryAfter = 5 * time.Second
	hint := certctl.Hint{Verb: certctl.HintIssue, Lane: someID.String(), IDs: []certctl.ID{someID, otherID}}
	box := certctl.Mailbox{Commands: []certctl.Statement{someStatement}, NextAfter: certctl.Duration(time.Minute), More: true}
	answer := certctl.ReportAnswer{Recorded: true, Message: "recorded", RetryAfter: certctl.Duration(time.Second)}
	for name, message := range map[string]struct {
		value any
		made  func() (*nats.Msg, error)
	}{
		"hint.v1":      {hint, func() (*nats.Msg, error) { return bus.HintMessage(hint) }},
		"event.v1":     {someEvent, func() (*nats.Msg, error) { return bus.EventMessage(someEvent) }},
		"statement.v1": {someStatement, func() (*nats.Msg, error) { return bus.StatementMessage(someStatement) }},
		"mailbox.v1":   {box, func() (*nats.Msg, error) { return bus.MailboxMessage(box) }},
		"report.v1":    {answer, func() (*nats.Msg, error) { return bus.ReportMessage(answer) }},
		"error.v1":     {failure, func() (*nats.Msg, error) { return bus.ErrorMessage(failure) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made, err := message.made()
			if err != nil {
				t.Fatal(err)
			}
			want := readGolden(t, filepath.Join("testdata", name+".json"), made)
			if diff := cmp.Diff(want, toGolden(made)); diff != "" {
				t.Errorf("messages are made otherwise than before (-was +is):\n%s", diff)
			}
			value, err := bus.Read(&nats.Msg{Subject: want.Subject, Header: want.Header, Data: want.Body})
			var ours *certctl.Error
			if errors.As(err, &ours) {
				value = ours
			}
			if diff := cmp.Diff(message.value, value); diff != "" {
				t.Errorf("the message is read otherwise than before (-want +got):\n%s", diff)
			}
		})
	}
}

func toGolden(m *nats.Msg) golden {
	return golden{Subject: m.Subject, Header: m.Header, Body: m.Data}
}

func readGolden(t *testing.T, file string, made *nats.Msg) golden {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *add {
		if data, err = json.MarshalIndent(toGolden(made), "", "\t"); err == nil {
			err = os.WriteFile(file, append(data, '\n'), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	// The body's bytes are what is hashed; the file is indented for people.
	var compact bytes.Buffer
	if err := json.Compact(&compact, g.Body); err != nil {
		t.Fatal(err)
	}
	g.Body = compact.Bytes()
	return g
}

// Messages of a newer release have fields and kinds that are not known here.
func TestUnknownFieldsAreIgnoredAndUnknownKindsAreNot(t *testing.T) {
	t.Parallel()
	m, err := bus.HintMessage(certctl.Hint{Verb: certctl.HintRenew, Lane: certctl.NoLane, IDs: []certctl.ID{someID}})
	if err != nil {
		t.Fatal(err)
	}
	m.Data = []byte(`{"ids":["` + someID.String() + `"],"news":1}`)
	if _, err := bus.Read(m); err != nil {
		t.Errorf("an unknown field is refused: %v", err)
	}
	m.Header.Set("certctl-version", "2")
	if _, err := bus.Read(m); err == nil {
		t.Error("a newer version is read")
	}
}

func FuzzReadMessages(f *testing.F) {
	f.Add("certctl.v1.intent.issue.-", "hint", "1", []byte(`{"ids":[]}`))
	f.Add("certctl.v1.event.a.b.c", "", "", []byte(`{}`))
	f.Add("certctl.v1.agent.x.ask.report", "statement", "1", []byte(`{"agent":"x"}`))
	f.Fuzz(func(t *testing.T, subject, kind, version string, body []byte) {
		m := nats.NewMsg(subject)
		m.Data = body
		m.Header.Set(bus.HeaderKind, kind)
		m.Header.Set("certctl-version", version)
		value, err := bus.Read(m)
		if hint, ok := value.(certctl.Hint); ok && err == nil && len(hint.IDs) > certctl.MaxHintIDs {
			t.Errorf("a hint of %d ids is read", len(hint.IDs))
		}
	})
}
