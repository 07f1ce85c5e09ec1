package bus

import (
	"encoding/hex"
	"strings"

	"github.com/certctl/certctl"
)

// Every subject is made by one function here and read by its inverse; nothing
// outside this package spells one. The namespace comes first, the version
// second, ids last. A token is a UUID that we minted, a word of a closed set, or
// text made safe by token, so a name can never be a wildcard.
const (
	prefixIntent = "certctl.v1.intent." // <verb>.<lane>
	prefixEvent  = "certctl.v1.event."  // <team>.<aggregate>.<name>
	prefixAgent  = "certctl.v1.agent."  // <agent>.cmd.<word>, <agent>.ask.<word>
	prefixSigner = "certctl.v1.svc.signer."
	prefixInbox  = "_INBOX."

	suffixBell     = ".cmd.bell"
	suffixCommands = ".cmd.>"
	infixAsk       = ".ask."

	askMailbox = "mailbox"
	askReport  = "report"

	// prefixReply begins the reply subject of a request that came through an
	// export: the broker makes it, and nobody can name one himself.
	prefixReply = "_R_."
)

// escape begins a token that is the hexadecimal form of other text.
const escape = "_x"

// token returns text as one token of a subject or a name: itself when it
// consists of [A-Za-z0-9_-], its hexadecimal form otherwise. Different texts
// give different tokens.
func token(text string) string {
	if plain(text) {
		return text
	}
	return escape + hex.EncodeToString([]byte(text))
}

// fromToken is the inverse of token. It refuses what token does not make.
func fromToken(t string) (string, bool) {
	if plain(t) {
		return t, true
	}
	encoded, escaped := strings.CutPrefix(t, escape)
	text, err := hex.DecodeString(encoded)
	if !escaped || err != nil || token(string(text)) != t {
		return "", false
	}
	return string(text), true
}

func plain(text string) bool {
	if text == "" || strings.HasPrefix(text, escape) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// fromTokens reads exactly n tokens after prefix.
func fromTokens(subject, prefix string, n int) ([]string, bool) {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return nil, false
	}
	texts := strings.Split(rest, ".")
	if len(texts) != n {
		return nil, false
	}
	for i := range texts {
		if texts[i], ok = fromToken(texts[i]); !ok {
			return nil, false
		}
	}
	return texts, true
}

// SubjectIntent is where hints of a verb and lane are published:
// certctl.v1.intent.<verb>.<lane>.
func SubjectIntent(verb certctl.HintVerb, lane string) string {
	return prefixIntent + token(string(verb)) + "." + token(lane)
}

// ParseIntent is the inverse of SubjectIntent.
func ParseIntent(subject string) (verb certctl.HintVerb, lane string, ok bool) {
	texts, ok := fromTokens(subject, prefixIntent, 2)
	if !ok {
		return "", "", false
	}
	return certctl.HintVerb(texts[0]), texts[1], true
}

// SubjectEvent is where an event is published:
// certctl.v1.event.<team>.<aggregate>.<name>.
func SubjectEvent(team string, aggregate certctl.Aggregate, name certctl.EventName) string {
	return prefixEvent + token(team) + "." + token(string(aggregate)) + "." + token(string(name))
}

// SubjectEvents is a filter for the events of one team, or of all teams when
// team is empty, about one kind of object, or about all when aggregate is empty.
func SubjectEvents(team string, aggregate certctl.Aggregate) string {
	subject := prefixEvent + "*."
	if team != "" {
		subject = prefixEvent + token(team) + "."
	}
	if aggregate == "" {
		return subject + ">"
	}
	return subject + token(string(aggregate)) + ".>"
}

// SubjectEventsNamed is [SubjectEvents] for one event only, or for all of the
// kind when name is empty.
func SubjectEventsNamed(team string, aggregate certctl.Aggregate, name certctl.EventName) string {
	subject := SubjectEvents(team, aggregate)
	if name == "" {
		return subject
	}
	return strings.TrimSuffix(subject, ">") + token(string(name))
}

// ParseEvent is the inverse of SubjectEvent.
func ParseEvent(subject string) (team string, aggregate certctl.Aggregate, name certctl.EventName, ok bool) {
	texts, ok := fromTokens(subject, prefixEvent, 3)
	if !ok {
		return "", "", "", false
	}
	return texts[0], certctl.Aggregate(texts[1]), certctl.EventName(texts[2]), true
}

// SubjectBell is where an agent's bell rings: certctl.v1.agent.<agent>.cmd.bell.
func SubjectBell(agent certctl.ID) string { return prefixAgent + agent.String() + suffixBell }

// ParseBell is the inverse of SubjectBell.
func ParseBell(subject string) (certctl.ID, bool) {
	middle, ok := strings.CutSuffix(subject, suffixBell)
	if !ok {
		return certctl.NoID, false
	}
	return agentID(middle)
}

// SubjectCommands is all that an agent listens to: certctl.v1.agent.<agent>.cmd.>.
func SubjectCommands(agent certctl.ID) string { return prefixAgent + agent.String() + suffixCommands }

// SubjectAskMailbox is where an agent asks for work:
// certctl.v1.agent.<agent>.ask.mailbox.
func SubjectAskMailbox(agent certctl.ID) string { return subjectAsk(agent, askMailbox) }

// SubjectAskReport is where an agent reports: certctl.v1.agent.<agent>.ask.report.
func SubjectAskReport(agent certctl.ID) string { return subjectAsk(agent, askReport) }

func subjectAsk(agent certctl.ID, word string) string {
	return prefixAgent + agent.String() + infixAsk + word
}

// subjectAsks is what responders to one kind of request listen to.
func subjectAsks(word string) string { return prefixAgent + "*" + infixAsk + word }

// ParseAsk is the inverse of SubjectAskMailbox and SubjectAskReport; kind is
// "mailbox" or "report".
func ParseAsk(subject string) (agent certctl.ID, kind string, ok bool) {
	for _, kind := range []string{askMailbox, askReport} {
		if middle, found := strings.CutSuffix(subject, infixAsk+kind); found {
			agent, ok := agentID(middle)
			return agent, kind, ok
		}
	}
	return certctl.NoID, "", false
}

// agentID reads certctl.v1.agent.<agent>; only the text form that String writes
// is one, so that each agent has one subject.
func agentID(subject string) (certctl.ID, bool) {
	text, ok := strings.CutPrefix(subject, prefixAgent)
	if !ok {
		return certctl.NoID, false
	}
	id, err := certctl.ParseID(text)
	if err != nil || id.String() != text {
		return certctl.NoID, false
	}
	return id, true
}

// SubjectSigner is where the signer is asked: certctl.v1.svc.signer.<verb>.
func SubjectSigner(verb string) string { return prefixSigner + token(verb) }

// ParseSigner is the inverse of SubjectSigner.
func ParseSigner(subject string) (verb string, ok bool) {
	texts, ok := fromTokens(subject, prefixSigner, 1)
	if !ok {
		return "", false
	}
	return texts[0], true
}

// InboxPrefix is what the inboxes of a user begin with: _INBOX.<user>. The
// user's permissions allow no other.
func InboxPrefix(user string) string { return prefixInbox + token(user) }

// ConsumerName names the durable consumer of a verb and lane.
func ConsumerName(verb certctl.HintVerb, lane string) string {
	return token(string(verb)) + "_" + token(lane)
}

// ReaderConsumer names the consumer of a reader of events.
func ReaderConsumer(reader certctl.ID) string { return "reader-" + reader.String() }
