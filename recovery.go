package certctl

import (
	"crypto/x509"
	"slices"
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
	IssuedFor   ID     // the certificate, by that event
	Signed      bool   // by one of our authorities
	Certificate ID     // whose place it is in; absent when that is lost, too
	Names       Names  // of that certificate
}

// Believe says why a leaf from the field is not to be taken in; nil if it is.
// What the event of its issuance names is ours. What one of our own authorities
// has signed is, too, but may be for another certificate: it must share a name
// with the one in whose place it is. Of other CAs' leaves nothing remains to hold
// them against but their chain and exactly the names that were asked for.
func (r Recovered) Believe() error {
	names, err := NamesOf(r.Leaf)
	switch {
	case err != nil:
		return err
	case r.Leaf.IsCA:
		return Errorf(Denied, "this is a CA's certificate, not a leaf")
	case !r.Fingerprint.IsZero() && r.Fingerprint != DigestOf(r.Leaf.Raw):
		return Errorf(Denied, "the event of its issuance names another leaf")
	case !r.Fingerprint.IsZero() && !r.Certificate.IsZero() && r.IssuedFor != r.Certificate:
		return Errorf(Denied, "it was issued for another certificate")
	case !r.fits():
		return Errorf(Denied, "its chain does not fit")
	case !r.Fingerprint.IsZero():
		return nil
	case r.Signed && !r.Certificate.IsZero() && !shareName(names, r.Names):
		return Errorf(Denied, "it has no name in common with the certificate in whose place it is")
	case r.Signed:
		return nil
	case len(r.Chain) == 0 || r.Certificate.IsZero() || !names.Equal(r.Names):
		return Errorf(Denied, "no authority of ours has signed it, and chain and names do not make up for that")
	}
	return nil
}

// fits reports whether each certificate of the chain has signed the one before.
func (r Recovered) fits() bool {
	child := r.Leaf
	for _, der := range r.Chain {
		parent, err := x509.ParseCertificate(der)
		if err != nil || child.CheckSignatureFrom(parent) != nil {
			return false
		}
		child = parent
	}
	return true
}

func shareName(a, b Names) bool {
	known := b.Strings()
	return slices.ContainsFunc(a.Strings(), func(name string) bool { return slices.Contains(known, name) })
}

// VersionRecovered is the origin of a version that an agent brought back.
const VersionRecovered VersionOrigin = "recovered"

// Events of a recovery.
const (
	EventRecoveryBegun    EventName = "recovery_begun"
	EventRecoveryFinished EventName = "recovery_finished"
	EventVersionRecovered EventName = "version_recovered"
)
