package certctl

import (
	"encoding/json"
	"time"
)

// CertificateRequest asks for a certificate. References are names or ids.
type CertificateRequest struct {
	Team          string
	Name          string
	Names         Names
	Issuers       []string // in order of preference; none: monitored
	Profile       string   // "" = server
	RenewalPolicy string   // "" = default
	KeyMode       KeyMode  // "" = agent, or csr when a CSR is given
	Sharing       Sharing  // "" = see Certificate.Sharing
	Owner         string
	Labels        map[string]string
	Bindings      []BindingRequest
	CSR           *CSR
	Origin        Origin
}

// BindingRequest asks for a certificate on a target.
type BindingRequest struct {
	Target string // name or id
	Place  string // "" = the certificate's name
	Slot   Slot   // "" = default
}

// CertificatePatch changes a certificate; nil fields stay as they are. A change
// of Names, Issuers or Profile raises the revision.
type CertificatePatch struct {
	Names         *Names
	Issuers       *[]string
	Profile       *string
	RenewalPolicy *string
	Owner         *string
	Labels        *map[string]string
	IfRevision    int64 // 0: whatever it is

	Sharing *Sharing // "": what the number of agents and the issuers ask for
}

// ImportRequest brings in a certificate that exists, with or without its key.
type ImportRequest struct {
	CertificateRequest
	Leaf      []byte // DER
	Chain     Chain
	SealedKey []byte // PKCS#8 under the "secrets" KEK; empty: monitored
	Holder    ID     // of the holder to be made, drawn by whoever sealed the key, which is bound to it
	Issued    bool   // the first of its issuers has issued it, for the account that it has here
}

// RenewRequest renews a certificate now.
type RenewRequest struct {
	Holder   ID     // absent: all of them
	Override string // why it cannot wait for the end of a freeze
}

// RollbackRequest goes back to an earlier version.
type RollbackRequest struct {
	Version ID   // absent: the one before the current, of each holder
	Holder  ID   // absent: all of them
	Force   bool // also to one that is revoked
}

// RevokeRequest revokes versions: exactly one of Version and Certificate says
// which; Holder narrows a certificate's to one of its holders.
type RevokeRequest struct {
	Version     ID
	Certificate string
	Holder      ID
	Reason      RevocationReason
	Replace     Replacement
}

// RevocationFilter selects revocations.
type RevocationFilter struct {
	PageRequest
	Team        string
	Certificate string
	State       RevocationState
}

// Idempotency makes a repeated request harmless: the same key of the same
// principal with the same hash gets the same answer, with another hash a
// Conflict error with code "invalid" semantics (HTTP 422).
type Idempotency struct {
	Key  string // "" = none
	Hash Digest // of method, path and body
}

// Page is one page of a list; Next is empty on the last one.
type Page[T any] struct {
	Items []T
	Next  string // opaque cursor
}

// PageRequest asks for a page.
type PageRequest struct {
	Cursor string
	Limit  int // 1 to MaxPage; 0 = DefaultPage
}

// Sizes of a page.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// CertificateFilter selects certificates; zero fields select all.
type CertificateFilter struct {
	PageRequest
	Team          string
	Status        CertificateStatus
	Issuer        string
	Agent         string
	Target        string
	Label         map[string]string
	Name          string // exact, or a prefix when it ends in '*'
	Query         string // text in names, or a serial number
	ExpiresBefore time.Time
	Archived      bool // archived ones instead of live ones
}

// PlanFilter selects what a plan of renewals is about.
type PlanFilter struct {
	Team   string
	Issuer string // the first one of a certificate
	Label  map[string]string
}

// OrderFilter selects orders.
type OrderFilter struct {
	PageRequest
	Team        string
	Certificate string
	State       OrderState
	Live        bool
}

// DeploymentFilter selects deployments.
type DeploymentFilter struct {
	PageRequest
	Team        string
	Certificate string
	Target      string
	Agent       string
	State       DeploymentState
}

// VersionFilter selects versions.
type VersionFilter struct {
	PageRequest
	Team        string
	Certificate string
	Holder      ID
	Serial      Serial
}

// AgentFilter selects agents.
type AgentFilter struct {
	PageRequest
	Team     string
	State    AgentState
	Presence string
	Label    map[string]string
}

// TargetFilter selects targets.
type TargetFilter struct {
	PageRequest
	Team  string
	Agent string
	Kind  string
}

// NamedFilter selects issuers, profiles, policies, tokens and the like.
type NamedFilter struct {
	PageRequest
	Team string
}

// TargetRequest makes or changes a target.
type TargetRequest struct {
	Team     string
	Name     string
	Agent    string // name or id; fixed once made
	Kind     string // fixed once made
	Settings json.RawMessage
	Labels   map[string]string
}

// IssuerRequest makes or changes an issuer.
type IssuerRequest struct {
	ID          ID // of a new issuer, drawn by whoever sealed its secrets, which are bound to it; absent: any
	Team        string
	Name        string
	Kind        string
	Settings    json.RawMessage
	Sealed      []byte // secrets, under the "secrets" KEK
	Trust       TrustClass
	Concurrency int
	Rate        Rate
	Duplicates  Rate // see Issuer
	Priced      bool
	Account     *ExternalAccount // one that the CA has already; nil: the issuer registers its own
}

// PrincipalPatch changes a principal; nil fields stay as they are.
type PrincipalPatch struct {
	Roles    *[]Role
	Disabled *bool
}
