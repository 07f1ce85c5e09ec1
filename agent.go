package certctl

import "time"

// AgentState is where an agent stands in its life. Whether it can be reached is
// another thing: see Presence.
type AgentState string

const (
	AgentPending  AgentState = "pending" // enrolled, waits for approval
	AgentActive   AgentState = "active"
	AgentConflict AgentState = "conflict" // two machines use one identity: nothing is sent
	AgentRetired  AgentState = "retired"
)

// Agent is a node.
type Agent struct {
	ID           ID
	Team         string
	Name         string
	State        AgentState
	StateReason  string
	MachineID    string
	Keys         AgentKeys
	Statement    Statement // the fleet key's word on ID and Keys, made at enrolment
	Labels       map[string]string
	Version      string   // of the program, as it says
	Capabilities []string // kinds of targets
	Features     []string // see MailboxRequest
	Session      int64
	LastContact  time.Time
	EnrolledAt   time.Time
	RetiredAt    time.Time
}

// OfflineAfter is how long after its last contact an agent counts as offline.
// Agents ask their mailbox at least every third of it.
const OfflineAfter = 3 * time.Minute

// Presence says whether an agent can be reached, judged by its last contact.
func Presence(lastContact, now time.Time) string {
	switch {
	case lastContact.IsZero():
		return "never"
	case now.Sub(lastContact) < OfflineAfter:
		return "online"
	}
	return "offline"
}

// AgentKeys are the three public keys of a node. The private ones never leave
// it, and each does one thing only: the broker chooses the nonce that the bus
// key signs, so that key must not sign anything else.
type AgentKeys struct {
	Bus     string `json:"bus"`     // nkey, "U…": logs in to the bus
	Signing []byte `json:"signing"` // Ed25519, 32 bytes: signs statements
	Sealing []byte `json:"sealing"` // HPKE (RFC 9180), X25519MLKEM768 public key
}

// Check refuses keys of the wrong form.
func (k AgentKeys) Check() error {
	var bad FieldErrors
	if len(k.Bus) != 56 || k.Bus[0] != 'U' {
		bad.Add("/keys/bus", "must be a public user nkey")
	}
	if len(k.Signing) != 32 {
		bad.Add("/keys/signing", "must be an Ed25519 public key of 32 bytes")
	}
	if len(k.Sealing) != SealingKeySize {
		bad.Add("/keys/sealing", "must be an X25519MLKEM768 public key of %d bytes", SealingKeySize)
	}
	return bad.Err()
}

// SealingKeySize is the length of an encoded X25519MLKEM768 public key.
const SealingKeySize = 1184 + 32

// JoinToken lets machines enrol by themselves.
type JoinToken struct {
	ID        ID
	Team      string
	Prefix    string // shown in lists; the token itself is stored hashed
	UsesLeft  int
	ExpiresAt time.Time
	Names     []string // patterns of agent names, path.Match; empty: any
	Labels    map[string]string
	Networks  []string // CIDR; empty: any
	Approve   bool     // auto-approve; otherwise agents wait in pending
	Replace   bool     // an existing name may be taken over
	Fleet     string   // the name of an agent of this fleet that is off line may be, also without Replace
	CreatedAt time.Time
	RevokedAt time.Time
}

// Enrolment is what a machine sends to become an agent.
type Enrolment struct {
	Token     string            `json:"token"`
	Name      string            `json:"name"`
	MachineID string            `json:"machine_id"`
	Keys      AgentKeys         `json:"keys"`
	Version   string            `json:"version,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Enrolled is the answer to an Enrolment: who the machine is now, and whom it
// may believe from here on. The same token and keys get the same answer.
type Enrolled struct {
	Installation ID         `json:"installation"`
	Agent        ID         `json:"agent"`
	Name         string     `json:"name"`
	State        AgentState `json:"state"`
	FleetKey     []byte     `json:"fleet_key"` // Ed25519; pinned for ever
	Trust        Statement  `json:"trust"`     // TrustDocument, signed by the fleet key
}

// Credentials let an agent log in to the bus until they expire.
type Credentials struct {
	JWT       string    `json:"jwt"`
	ExpiresAt time.Time `json:"expires_at"`
	RenewAt   time.Time `json:"renew_at"`
	Trust     Statement `json:"trust"`
}

// TrustDocument tells agents whom to believe and where to find them. Its
// Version only rises; an agent takes a newer one from any channel, since it is
// signed by the fleet key that the agent pinned when it enrolled.
type TrustDocument struct {
	Version      int64        `json:"version"`
	Installation ID           `json:"installation"`
	CommandKeys  []CommandKey `json:"command_keys"`
	CABundle     string       `json:"ca_bundle"` // PEM roots for the API and the bus
	APIURLs      []string     `json:"api_urls"`
	BusURLs      []string     `json:"bus_urls"`
	IssuedAt     time.Time    `json:"issued_at"`
}

// CommandKey is an Ed25519 key whose signature makes a command, within its time.
type CommandKey struct {
	Public    []byte    `json:"public"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}
