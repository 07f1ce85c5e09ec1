package acme

import (
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

// step is what is to be done next. The values are stored.
type step string

const (
	stepOrder    step = ""         // make the CA's order
	stepProve    step = "prove"    // see which names are to be proven, and how
	stepPresent  step = "present"  // put the proofs where the CA looks
	stepHold     step = "hold"     // wait until the agents hold them
	stepSpread   step = "spread"   // wait until the DNS servers show them
	stepAccept   step = "accept"   // tell the CA to look
	stepValidate step = "validate" // wait until it has
	stepClean    step = "clean"    // remove the proofs
	stepFinalize step = "finalize" // send the request, wait for the certificate
	stepDownload step = "download"
)

// spoken is the step's name for people.
func (s step) spoken() string {
	if s == stepOrder {
		return "order"
	}
	return string(s)
}

// state is what is recorded of an attempt. It holds no secrets: tokens are public
// once they are presented.
type state struct {
	Step        step    `json:"step"`
	Proofs      []proof `json:"proofs,omitempty"`
	Finalize    string  `json:"finalize,omitempty"`    // URL
	Certificate string  `json:"certificate,omitempty"` // URL
	Failures    int     `json:"failures,omitempty"`    // of this step, in a row
	Polls       int     `json:"polls,omitempty"`       // of this step, in a row
	// Shown says that the DNS servers have shown every value and the rest of the
	// wait has begun. Workers that do not know it do not wait.
	Shown bool `json:"shown,omitempty"`
	// TellAt is when that wait is over. Workers that do not know it have set none: of
	// theirs it counts as over.
	TellAt time.Time `json:"tell_at,omitzero"`
}

// proof is one authorization of the CA's order (RFC 8555 section 7.1.4).
type proof struct {
	URL       string `json:"url"`
	Name      string `json:"name,omitempty"` // with *. for wildcards
	Valid     bool   `json:"valid,omitempty"`
	Type      string `json:"type,omitempty"`
	Challenge string `json:"challenge,omitempty"` // URL
	Token     string `json:"token,omitempty"`
	Record    string `json:"record,omitempty"` // dns-01: where the value stands, CNAMEs followed
	Value     string `json:"value,omitempty"`
	Answer    string `json:"answer,omitempty"` // the key authorization, which Value is the digest of; none: http-01 by ourselves
	// Issuers are the names of the CA of which the record must have one:
	// dns-persist-01, whose record is written by nobody here.
	Issuers []string `json:"issuers,omitempty"`
	// By are the agents that hold the proof; none: it is held by ourselves.
	By *certctl.Answerers `json:"by,omitempty"`
}

func parseState(raw []byte) (state, error) {
	var s state
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, certctl.Wrap(certctl.Internal, err, "the attempt's state cannot be read")
	}
	return s, nil
}

func (s state) encode() []byte {
	raw, _ := json.Marshal(s) // strings, numbers and booleans
	return raw
}

// open are the proofs that the CA has not accepted yet, of one type.
func (s state) open(challenge string) []proof {
	var out []proof
	for _, p := range s.Proofs {
		if !p.Valid && p.Type == challenge {
			out = append(out, p)
		}
	}
	return out
}
