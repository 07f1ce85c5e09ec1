package bus

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
)

// Kinds of messages, besides events. Kind and version are headers, so that a
// reader knows whether it can read the body before it tries.
const (
	kindHint      = "hint"      // hintBody
	kindStatement = "statement" // certctl.Statement: an agent's request
	kindMailbox   = "mailbox"   // certctl.Mailbox: the answer to one
	kindReport    = "report"    // certctl.ReportAnswer: the answer to another
	kindCall      = "call"      // a role's question to the signer
	kindResult    = "result"    // the signer's answer
	kindError     = "error"     // errorBody: why there is no answer
)

// messageVersion is the newest version of every kind. Additive changes do not
// raise it: decoders ignore fields that they do not know.
const messageVersion = "1"

// Headers of our own; those of events are CloudEvents'.
const (
	headerKind    = "certctl-kind"
	headerVersion = "certctl-version"
	headerTrace   = "traceparent" // W3C trace context
)

// errUnknownKind is of a message that a newer release may be able to read.
var errUnknownKind = certctl.Errorf(certctl.Invalid, "the kind or version of this message is not known here")

// newMessage encodes body as a message of a kind.
func newMessage(subject, kind string, body any) (*nats.Msg, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "a %s message cannot be encoded", kind)
	}
	m := nats.NewMsg(subject)
	m.Header.Set(headerKind, kind)
	m.Header.Set(headerVersion, messageVersion)
	m.Data = data
	return m, nil
}

// readMessage decodes a message of a kind into body. The error is errUnknownKind
// for another kind or a newer version, an Invalid one for a malformed body.
func readMessage(header nats.Header, data []byte, kind string, body any) error {
	if header.Get(headerKind) != kind || header.Get(headerVersion) != messageVersion {
		return errUnknownKind
	}
	if err := json.Unmarshal(data, body); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the body of this %s message cannot be read", kind)
	}
	return nil
}

// hintBody is the body of a hint; verb and lane are in the subject.
type hintBody struct {
	IDs []certctl.ID `json:"ids"`
}

func hintMessage(h certctl.Hint) (*nats.Msg, error) {
	return newMessage(SubjectIntent(h.Verb, h.Lane), kindHint, hintBody{IDs: h.IDs})
}

// readHint is the inverse of hintMessage.
func readHint(subject string, header nats.Header, data []byte) (certctl.Hint, error) {
	verb, lane, ok := ParseIntent(subject)
	if !ok {
		return certctl.Hint{}, errUnknownKind
	}
	h := certctl.Hint{Verb: verb, Lane: lane}
	var body hintBody
	if err := readMessage(header, data, kindHint, &body); err != nil {
		return h, err
	}
	if len(body.IDs) > certctl.MaxHintIDs {
		return h, certctl.Errorf(certctl.Invalid, "this hint names %d ids, more than %d", len(body.IDs), certctl.MaxHintIDs)
	}
	h.IDs = body.IDs
	return h, nil
}

// errorBody is an error that crosses the bus: what is safe to show, no cause.
type errorBody struct {
	Code       certctl.Code         `json:"code"`
	Message    string               `json:"message"`
	Remedy     string               `json:"remedy,omitempty"`
	Fields     []certctl.FieldError `json:"fields,omitempty"`
	RetryAfter certctl.Duration     `json:"retry_after,omitzero"`
}

func errorMessage(err error) (*nats.Msg, error) {
	body := errorBody{Code: certctl.ErrorCode(err), Message: certctl.ErrorMessage(err)}
	if e, ok := asError(err); ok && e.Code != certctl.Internal {
		body.Remedy, body.Fields, body.RetryAfter = e.Remedy, e.Fields, certctl.Duration(e.RetryAfter)
	}
	return newMessage("", kindError, body)
}

// readAnswer decodes the answer to a request, or returns the error that it is.
func readAnswer(m *nats.Msg, kind string, body any) error {
	if m.Header.Get(headerKind) != kindError {
		return readMessage(m.Header, m.Data, kind, body)
	}
	var e errorBody
	if err := readMessage(m.Header, m.Data, kindError, &e); err != nil {
		return err
	}
	return &certctl.Error{
		Code: e.Code, Message: e.Message, Remedy: e.Remedy, Fields: e.Fields, RetryAfter: time.Duration(e.RetryAfter),
	}
}

// percent encodes a header's value as CloudEvents asks (HTTP binding 1.0.2,
// section 3.1.3.2, which the NATS binding follows): printable ASCII stays,
// except space, quote and percent.
func percent(s string) string {
	const hexadecimal = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexadecimal[c>>4])
			b.WriteByte(hexadecimal[c&15])
		}
	}
	return b.String()
}
