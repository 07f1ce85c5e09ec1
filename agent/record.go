package agent

import (
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// The journal's records, by key:
//
//	order/<id>          orderRecord    a key and CSR were made for this order
//	binding/<id>        bindingRecord  what was carried out for this binding
//	target/<id>         targetRecord   what the target is
//	report/<kind>/<id>  reportRecord   what the server has not recorded yet
//	next/<holder>       nextRecord     a key was handed over for its next leaf
//	proof/<set>         proofRecord    a CA is to be answered with these

// orderRecord makes a repeated order answerable with the same CSR.
type orderRecord struct {
	SPKI    certctl.Digest    `json:"spki"`
	Report  certctl.Statement `json:"report"`
	Asked   time.Time         `json:"asked"`             // last
	Claimed bool              `json:"claimed,omitempty"` // a binding has the leaf now, and answers for the key
	Holder  certctl.ID        `json:"holder,omitzero"`   // whose members the key may be sealed for
}

// bindingRecord is the state of one binding on this node. It stays, as a mark
// of the newest number, after the binding has been forgotten.
type bindingRecord struct {
	Target      certctl.ID        `json:"target"`
	Number      int64             `json:"number"`           // of the newest command carried out
	Version     certctl.ID        `json:"version,omitzero"` // in place
	Fingerprint certctl.Digest    `json:"fingerprint,omitzero"`
	Place       string            `json:"place,omitempty"`
	Slot        certctl.Slot      `json:"slot,omitempty"`
	Keys        []keyUse          `json:"keys,omitempty"`   // of the current and the previous generation
	Pending     certctl.Digest    `json:"pending,omitzero"` // key of a version that could not be installed yet
	Answer      certctl.Statement `json:"answer"`           // to the newest command
	Forgotten   bool              `json:"forgotten,omitempty"`
	At          time.Time         `json:"at"`
	Certificate certctl.ID        `json:"certificate,omitzero"`
}

// keyUse says until when a generation has use for a key.
type keyUse struct {
	SPKI     certctl.Digest `json:"spki"`
	NotAfter time.Time      `json:"not_after"`
	Holder   certctl.ID     `json:"holder,omitzero"` // whose members the key may be sealed for
}

// targetRecord is the newest description of a target; secrets are still sealed.
type targetRecord struct {
	Number  int64                 `json:"number"`
	Time    time.Time             `json:"time"`
	Command certctl.TargetCommand `json:"command"`
}

// reportRecord is a report that waits for the server's answer.
type reportRecord struct {
	Statement certctl.Statement `json:"statement"`
}

func orderKey(id certctl.ID) string   { return "order/" + id.String() }
func bindingKey(id certctl.ID) string { return "binding/" + id.String() }
func targetKey(id certctl.ID) string  { return "target/" + id.String() }

// reportKey is the same for reports of which only the newest matters.
func reportKey(s certctl.Statement) string { return "report/" + s.Kind + "/" + s.Object.String() }

// idOf returns the id in a journal key.
func idOf(key string) certctl.ID {
	id, _ := certctl.ParseID(key[strings.LastIndexByte(key, '/')+1:]) // we made the key from an id
	return id
}

// sameReport reports whether b is the very statement a: a newer one of the same
// key must not be dropped when the older one is acknowledged.
func sameReport(a, b certctl.Statement) bool { return string(a.Signature) == string(b.Signature) }

// label names a command in logs.
func label(s certctl.Statement) string {
	return s.Kind + " " + s.Object.String() + " #" + strconv.FormatInt(s.Number, 10)
}
