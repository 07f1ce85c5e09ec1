package certctl

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Types of proofs that nodes can hold.
const (
	ProofHTTP = "http-01"     // RFC 8555 section 8.3
	ProofTLS  = "tls-alpn-01" // RFC 8737
)

// Proof is what a CA looks for at the address of a name before it believes that
// the name is ours. Nothing in it is secret: whoever asks may see it.
type Proof struct {
	Type       string `json:"type"`
	Identifier string `json:"identifier"` // a DNS name or an address
	Token      string `json:"token"`
	Answer     string `json:"answer"` // the key authorization (RFC 8555 section 8.1)
}

const (
	// MaxProofs is how many proofs one command holds at most: an order has so many
	// names.
	MaxProofs = 100

	// KeepProofs is how long a node holds proofs that nobody takes back: no CA keeps
	// an order open for longer.
	KeepProofs = 7 * Day
)

// Tokens and thumbprints are base64url without padding. A token becomes the name
// of a file, which file systems bound.
var proofAnswers = regexp.MustCompile(`^([A-Za-z0-9_-]{16,200})\.[A-Za-z0-9_-]{43}$`)

// Check refuses what must not become a path, an answer or a certificate.
func (p Proof) Check() error {
	if p.Type != ProofHTTP && p.Type != ProofTLS {
		return Errorf(Invalid, "this node does not know proofs of the type %q", Clip(p.Type, 40)).WithRemedy("update certctl-agent on this node")
	}
	if match := proofAnswers.FindStringSubmatch(p.Answer); match == nil || match[1] != p.Token {
		return Errorf(Invalid, "this is no key authorization for a token")
	}
	if _, err := netip.ParseAddr(p.Identifier); err == nil {
		return nil
	}
	names, err := Names{DNS: []string{p.Identifier}}.Normalize()
	if err != nil || len(names.DNS) != 1 || names.DNS[0] != p.Identifier || strings.HasPrefix(p.Identifier, "*") {
		return Errorf(Invalid, "%q is no name that a node can prove", Clip(p.Identifier, 100))
	}
	return nil
}

// Answerers are the agents that answer a CA: all that the certificate is bound
// on, or those that are named.
type Answerers struct {
	Bound bool
	Names []string
}

// boundAgents is how Answerers say Bound.
const boundAgents = "agents"

// MarshalJSON writes "agents", or the names.
func (a Answerers) MarshalJSON() ([]byte, error) {
	if a.Bound {
		return json.Marshal(boundAgents)
	}
	return json.Marshal(a.Names)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (a *Answerers) UnmarshalJSON(raw []byte) error {
	var word string
	if json.Unmarshal(raw, &word) == nil {
		if word != boundAgents {
			return Errorf(Invalid, "answered_by is %q or a list of agents", boundAgents)
		}
		*a = Answerers{Bound: true}
		return nil
	}
	*a = Answerers{}
	if json.Unmarshal(raw, &a.Names) != nil {
		return Errorf(Invalid, "answered_by is %q or a list of agents", boundAgents)
	}
	return nil
}

// NodeProofs are proofs, and who is to hold them.
type NodeProofs struct {
	By     Answerers
	Proofs []Proof
}

// NodeProof says whether one agent holds an order's proofs.
type NodeProof struct {
	Agent       Ref
	Held        bool
	Refusal     *Refusal // why it does not
	LastContact time.Time
	Offline     bool
}

// CommandProve is a command whose Object is a set of proofs that the node is to
// hold, in place of what it holds of that set; body ProveCommand.
const CommandProve = "prove"

// ProveCommand asks an agent to hold the proofs of one order, or, without any, to
// hold none of them any more.
type ProveCommand struct {
	Set      ID        `json:"set"`
	Proofs   []Proof   `json:"proofs,omitempty"`
	NotAfter time.Time `json:"not_after"` // the command is void afterwards
}

// ReportHeld is a report whose Object is a set of proofs that the node holds now,
// where the CA can see them; Number: the command's; body Refusal, code empty.
const ReportHeld = "held"

// ProveWork is a set of proofs that its agent should hold, or drop.
type ProveWork struct {
	Set    ID
	Number int64
	Proofs []Proof
}

// WaitNodes is why an order waits whose proofs are to be held by agents that do
// not hold them yet.
const WaitNodes WaitReason = "nodes"

// CodeNodeRefused is why an order waits whose proof a node will not, or cannot,
// hold. It goes on as soon as the node can.
const CodeNodeRefused = "acme_node_refused"
