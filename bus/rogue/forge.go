package rogue

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// Headers and values of a hint, as bus writes them. A forger knows them.
const (
	headerKind    = "certctl-kind"
	headerVersion = "certctl-version"
	kindHint      = "hint"
	versionHint   = "1"
)

// Hint is a well-formed hint.
func Hint(verb certctl.HintVerb, lane string, ids ...certctl.ID) Intent {
	body, err := json.Marshal(map[string]any{"ids": ids})
	if err != nil {
		panic(err) // ids are text
	}
	return forged(verb, lane, kindHint, versionHint, string(body))
}

// Newer returns hints of kinds and versions that only a later release could know.
// Each becomes a dead letter where nobody knows it.
func Newer(verb certctl.HintVerb, lane string) []Intent {
	return []Intent{
		forged(verb, lane, kindHint, "2", `{"orders":{"all":true}}`),
		forged(verb, lane, "wish", versionHint, `{"ids":[]}`),
		forged(verb, lane, "", "", `{"ids":[]}`),
	}
}

// Malformed returns hints whose bodies nobody can read. Each becomes a dead letter.
func Malformed(verb certctl.HintVerb, lane string) []Intent {
	var many []certctl.ID
	for range certctl.MaxHintIDs + 1 {
		many = append(many, certctl.NoID)
	}
	bodies := []string{"", "{", `{"ids":"all"}`, `{"ids":["../../etc"]}`, "\x00\xff", string(Hint(verb, lane, many...).Data)}
	all := make([]Intent, len(bodies))
	for i, body := range bodies {
		all[i] = forged(verb, lane, kindHint, versionHint, body)
	}
	return all
}

// Nowhere returns hints that no consumer takes: unknown verbs and lanes. They age
// and go.
func Nowhere() []Intent {
	all := []Intent{Hint("transmogrify", certctl.NoLane), Hint(certctl.HintIssue, "no-such-lane")}
	for n := range 3 {
		all = append(all, Hint(certctl.HintVerb(fmt.Sprintf("verb%d", n)), certctl.NoLane))
	}
	return all
}

func forged(verb certctl.HintVerb, lane, kind, version, body string) Intent {
	header := nats.Header{}
	header.Set(headerKind, kind)
	header.Set(headerVersion, version)
	return Intent{Subject: bus.SubjectIntent(verb, lane), Header: header, Data: []byte(body)}
}
