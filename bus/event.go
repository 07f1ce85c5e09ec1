package bus

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// An event travels as a CloudEvent 1.0 in binary mode: attributes are headers
// with percent-encoded values, the body is the event's canonical data. Names of
// extension attributes are lower-case letters and digits (section "Naming
// conventions").
const (
	ceVersion     = "ce-specversion"
	ceID          = "ce-id"
	ceSource      = "ce-source"
	ceType        = "ce-type"
	ceSubject     = "ce-subject"
	ceTime        = "ce-time"
	ceContentType = "ce-datacontenttype"
	ceSequence    = "ce-sequence" // extension "sequence": per object, from 1, without gaps
	ceSequencing  = "ce-sequencetype"
	ceTeam        = "ce-certctlteam"

	eventVersion    = "1.0"
	eventTypePrefix = "io.certctl.v1."
	eventSource     = "/certctl/"
)

// traceparent is version 00 of the W3C header, the only one there is.
var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// eventMessage encodes an event. Its id is the message's, so that the stream
// drops what is published twice within its window.
func eventMessage(e certctl.Event) (*nats.Msg, error) {
	data, err := e.Canonical()
	if err != nil {
		return nil, err
	}
	m := nats.NewMsg(SubjectEvent(e.Team, e.Aggregate, e.Name))
	m.Data = data
	for name, value := range map[string]string{
		ceVersion: eventVersion, ceID: e.ID.String(), ceType: eventTypePrefix + string(e.Name),
		ceSource:      eventSource + url.PathEscape(e.Team),
		ceSubject:     string(e.Aggregate) + "/" + e.Object.String(),
		ceTime:        e.Time.UTC().Format(time.RFC3339Nano),
		ceContentType: "application/json",
		ceSequence:    strconv.FormatInt(e.Sequence, 10), ceSequencing: "Integer",
		ceTeam: e.Team,
	} {
		m.Header.Set(name, percent(value))
	}
	m.Header.Set(jetstream.MsgIDHeader, e.ID.String())
	m.Header.Set(jetstream.ExpectedStreamHeader, StreamEvent)
	if traceparent.MatchString(e.Trace) {
		m.Header.Set(headerTrace, e.Trace)
	}
	return m, nil
}

// readEvent is the inverse of eventMessage. The error is errUnknownKind for what
// is not an event of version 1.
func readEvent(subject string, header nats.Header, data []byte) (certctl.Event, error) {
	_, _, _, ok := ParseEvent(subject)
	if !ok || header.Get(ceVersion) != eventVersion || !strings.HasPrefix(header.Get(ceType), eventTypePrefix) {
		return certctl.Event{}, errUnknownKind
	}
	var e certctl.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return certctl.Event{}, certctl.Wrap(certctl.Invalid, err, "the body of this event cannot be read")
	}
	if e.ID.String() != header.Get(ceID) || SubjectEvent(e.Team, e.Aggregate, e.Name) != subject {
		return certctl.Event{}, certctl.Errorf(certctl.Invalid, "the headers of this event contradict its body")
	}
	e.Trace = header.Get(headerTrace)
	return e, nil
}
