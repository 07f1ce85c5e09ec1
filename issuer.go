package certctl

import (
	"encoding/json"
	"time"
)

// TrustClass tells CAs that browsers know from our own.
type TrustClass string

const (
	TrustPublic  TrustClass = "public"
	TrustPrivate TrustClass = "private"
)

// Health is an issuer's state as its own answers show it.
type Health string

const (
	HealthUnknown  Health = "unknown"
	HealthHealthy  Health = "healthy"
	HealthDegraded Health = "degraded"
	HealthDown     Health = "down"
)

// IssuerLocal is the kind of issuers whose CA this platform runs itself.
const IssuerLocal = "local"

// Issuer is a configured CA connection.
type Issuer struct {
	ID           ID
	Team         string
	Name         string
	Kind         string // a row of handlers/issuer's table
	Settings     json.RawMessage
	Trust        TrustClass
	Concurrency  int  // live attempts at once over all replicas; 0: no limit
	Rate         Rate // attempts over all replicas
	Duplicates   Rate // leaves with the same names that it gives
	Priced       bool // each leaf costs money
	Health       Health
	HealthReason string
	DownSince    time.Time // while it is down
	Paused       bool
	Authorities  []Authority // local issuers
	CreatedAt    time.Time
	UpdatedAt    time.Time
	ArchivedAt   time.Time
}

// Rate is how often something may happen in a time; a zero Count is no limit.
type Rate struct {
	Count int
	Per   Duration
}

// AuthorityState is where an authority stands: one of an issuer is active.
type AuthorityState string

const (
	AuthorityRequested AuthorityState = "requested" // key made, waits for its certificate
	AuthorityActive    AuthorityState = "active"
	AuthorityRetiring  AuthorityState = "retiring" // signs no leaves; its lists and OCSP live on
	AuthorityRetired   AuthorityState = "retired"
)

// Authority is one CA certificate of ours and its key. The key is opened only
// by the signer role.
type Authority struct {
	ID          ID
	Issuer      ID
	Parent      ID // absent for a root, and for one that a foreign CA signed
	State       AuthorityState
	Certificate []byte // DER; empty while requested
	Chain       Chain  // up to, without, the root
	KeyURI      string // "file:" with a sealed key, later pkcs11: and others
	SealedKey   []byte
	PKIURL      string // http://host[:port], fixed when the authority was made
	Shards      int    // of its revocation list, fixed likewise
	NotBefore   time.Time
	NotAfter    time.Time
	ActivateAt  time.Time // of a next one: when it begins to sign
	CreatedAt   time.Time
}

// CRL is one signed revocation list of an authority.
type CRL struct {
	Authority  ID
	Shard      int // CompleteCRL for the list without a distribution point
	Number     int64
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
}

// CompleteCRL is the shard number of the list that holds every entry.
const CompleteCRL = -1

// RevokedEntry is one line of a revocation list.
type RevokedEntry struct {
	Serial    Serial
	RevokedAt time.Time
	Reason    RevocationReason
	NotAfter  time.Time
}

// Responder answers for one authority whether its leaves are revoked: a
// certificate and key of their own, delegated by the authority's (RFC 6960
// section 4.2.2.2). Whoever holds it can lie about status and issue nothing.
type Responder struct {
	Authority   ID
	Certificate []byte // DER
	SealedKey   []byte // under the "pki" KEK
	NotBefore   time.Time
	NotAfter    time.Time
}

// SerialStatus is what an authority knows of one serial number.
type SerialStatus struct {
	Known     bool // it has issued it
	RevokedAt time.Time
	Reason    RevocationReason
}

// OCSPAnswer is an OCSPResponse (RFC 6960 section 4.2.1). A refusal has no times.
type OCSPAnswer struct {
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
	Nonce      bool // answers one request only: nobody may keep it
}
