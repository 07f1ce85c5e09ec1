package certctl

import (
	"crypto/x509"
	"time"
)

// Recovery is the time after a restore in which the installation learns what it
// did after the backup: from the event stream, and from what agents have
// installed. Meanwhile it says of no serial number that it was never issued, and
// sends no agent a version in the place of one that is not known here yet.
type Recovery struct {
	ID         ID
	AsOf       time.Time // the moment of the backup
	BeganAt    time.Time
	FinishedAt time.Time // zero: it goes on
	Stream     RecoveryStream
	Events     int // taken from the stream
	Agents     int // that were active when it began
	Heard      int // of them, those whose word is in
	Taken      int // versions taken in from agents
	Refused    int // versions of agents that were not believed
	Stubs      int // versions known by their events only
}

// RecoveryStream is what became of the event stream in a recovery.
type RecoveryStream string

const (
	StreamUnread  RecoveryStream = "unread"
	StreamRead    RecoveryStream = "read"
	StreamAbsent  RecoveryStream = "absent"  // the bus has none: what only it knew is lost
	StreamSkipped RecoveryStream = "skipped" // somebody has given it up
)

// CommandInventory asks an agent for leaves that it has and the server lacks.
// Object: the agent; body InventoryCommand.
const CommandInventory = "inventory"

// ReportInventory answers it. Object: the agent; body InventoryReport.
const ReportInventory = "inventory"

// MaxInventory is how many bindings one command asks about: leaves and chains of
// as many fit into a report.
const MaxInventory = 12

// InventoryCommand names the bindings whose leaf and chain are asked for.
type InventoryCommand struct {
	Bindings []ID      `json:"bindings"`
	NotAfter time.Time `json:"not_after"` // the command is void afterwards
}

// InventoryReport is what an agent has in the places of bindings.
type InventoryReport struct {
	Items []InventoryItem `json:"items"`
}

// InventoryItem is one binding's leaf and chain, or why there is none.
type InventoryItem struct {
	Binding ID             `json:"binding"`
	Version ID             `json:"version"`
	Number  int64          `json:"number"`
	Leaf    []byte         `json:"leaf,omitempty"` // DER
	Chain   Chain          `json:"chain,omitempty"`
	Outcome ReceiptOutcome `json:"outcome,omitempty"` // of its installation
	Problem string         `json:"problem,omitempty"`
}

// Recovered is a leaf that an agent says it was given, and what is known of it.
type Recovered struct {
	Leaf        *x509.Certificate
	Chain       Chain
	Fingerprint Digest // by its issuance's event; zero without one
	Signed      bool   // by one of our authorities
	Names       Names  // of the certificate; empty when that is lost, too
}

// Believe says why a leaf from the field is not to be taken in; nil if it is.
// What the event of its issuance names, or one of our own authorities has
// signed, is ours. Of other CAs' leaves nothing remains to hold them against but
// their chain and the names that were asked for.
func (r Recovered) Believe() error {
	switch {
	case r.Leaf.IsCA:
		return Errorf(Denied, "this is a CA's certificate, not a leaf")
	case !r.Fingerprint.IsZero() && r.Fingerprint != DigestOf(r.Leaf.Raw):
		return Errorf(Denied, "the event of its issuance names another leaf")
	case !r.Fingerprint.IsZero() || r.Signed:
		return nil
	case len(r.Chain) == 0:
		return Errorf(Denied, "no authority of ours has signed it, and it has no chain")
	}
	names, err := NamesOf(r.Leaf)
	if err != nil || r.Names.Len() == 0 || !names.Equal(r.Names) {
		return Errorf(Denied, "no authority of ours has signed it, and its names are not those of its certificate")
	}
	child := r.Leaf
	for _, der := range r.Chain {
		parent, err := x509.ParseCertificate(der)
		if err != nil || child.CheckSignatureFrom(parent) != nil {
			return Errorf(Denied, "its chain does not fit")
		}
		child = parent
	}
	return nil
}

// VersionRecovered is the origin of a version that an agent brought back.
const VersionRecovered VersionOrigin = "recovered"

// Events of a recovery.
const (
	EventRecoveryBegun    EventName = "recovery_begun"
	EventRecoveryFinished EventName = "recovery_finished"
	EventVersionRecovered EventName = "version_recovered"
)
