package certctl

import "time"

// KeyMode says where private keys come from.
type KeyMode string

const (
	KeyModeAgent    KeyMode = "agent"    // made on the nodes that use them
	KeyModeCSR      KeyMode = "csr"      // the client sends a CSR
	KeyModeImported KeyMode = "imported" // came with an import, sealed at rest
)

// Sharing says whether the agents of a certificate hold one key or one each.
type Sharing string

const (
	SharingPerAgent Sharing = "per_agent"
	SharingShared   Sharing = "shared"
)

// Certificate is what should exist: the names, who issues it, under which
// profile and policy, and where it is installed. Its Revision rises with every
// change of what a leaf contains (names, profile, issuer), so that a holder
// whose newest version has an older revision is due.
type Certificate struct {
	ID            ID
	Team          string
	Name          string
	Names         Names
	Revision      int64
	Issuers       []Ref // in order of preference; none: monitored
	Profile       Ref
	RenewalPolicy Ref
	KeyMode       KeyMode
	Sharing       Sharing
	Owner         string
	Labels        map[string]string
	Paused        bool
	Status        CertificateStatus
	StatusReason  string
	NotAfter      time.Time // of the newest version; zero without one
	Bindings      []Binding
	CreatedAt     time.Time
	UpdatedAt     time.Time
	ArchivedAt    time.Time
}

// Ref points at an object by id and shows its name.
type Ref struct {
	ID   ID     `json:"id"`
	Name string `json:"name"`
}

// MaxLabels and the two lengths bound an object's labels.
const (
	MaxLabels     = 64
	maxLabelKey   = 63
	maxLabelValue = 253
)

// CheckLabels refuses labels that cannot be stored or filtered by.
func CheckLabels(labels map[string]string) error {
	var bad FieldErrors
	if len(labels) > MaxLabels {
		bad.Add("/labels", "at most %d labels", MaxLabels)
	}
	for key, value := range labels {
		if key == "" || len(key) > maxLabelKey || len(value) > maxLabelValue {
			bad.Add("/labels", "%q: keys have 1 to %d characters, values at most %d", Clip(key, 40), maxLabelKey, maxLabelValue)
		}
	}
	return bad.Err()
}

// CertificateStatus is one word for where a certificate stands. It is computed
// by StatusOf and stored with every change; "expiring" and "expired" depend on
// the clock and are predicates of queries, not statuses.
type CertificateStatus string

const (
	StatusPending   CertificateStatus = "pending"   // no leaf yet, an order is open
	StatusRefused   CertificateStatus = "refused"   // no leaf, and the last order was refused
	StatusDeploying CertificateStatus = "deploying" // a leaf is on its way to targets, or to some of the holders
	StatusActive    CertificateStatus = "active"    // the newest leaf is where it should be
	StatusDegraded  CertificateStatus = "degraded"  // some target serves something else
	StatusRevoked   CertificateStatus = "revoked"   // the newest leaf is revoked
	StatusMonitored CertificateStatus = "monitored" // no issuer: only watched
	StatusArchived  CertificateStatus = "archived"
)

// CertificateFacts is what StatusOf needs to know of a certificate.
type CertificateFacts struct {
	Archived, Monitored bool
	Versions            int  // unrevoked versions of current holders
	Missing             int  // current holders without a version
	Revoked             bool // the newest version is revoked
	LastOrderRefused    bool
	OpenDeployments     int // pending or installing
	BrokenDeployments   int // rolled back or failed, of the newest version
}

// StatusOf computes a certificate's status from its facts.
func StatusOf(f CertificateFacts) CertificateStatus {
	switch {
	case f.Archived:
		return StatusArchived
	case f.Revoked:
		return StatusRevoked
	case f.BrokenDeployments > 0:
		return StatusDegraded
	case f.OpenDeployments > 0, f.Versions > 0 && f.Missing > 0 && !f.LastOrderRefused:
		return StatusDeploying
	case f.Versions > 0 && f.Monitored:
		return StatusMonitored
	case f.Versions > 0:
		return StatusActive
	case f.LastOrderRefused:
		return StatusRefused
	case f.Monitored:
		return StatusMonitored
	}
	return StatusPending
}

// HolderKind says what holds a key.
type HolderKind string

const (
	HolderAgent  HolderKind = "agent"  // one node
	HolderShared HolderKind = "shared" // several nodes, one key
	HolderClient HolderKind = "client" // whoever sent the CSR, or the import
)

// Holder is who holds one private key of a certificate. Orders, versions and
// keys refer to holders, never to agents.
type Holder struct {
	ID          ID
	Certificate ID
	Kind        HolderKind
	Members     []Ref // agents; empty for a client
	Version     ID    // the newest one, absent before the first
	RenewAt     time.Time
	Keys        []MemberKey // HolderShared: who has the newest version's key
}
