package certctl

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Version is a leaf that exists: issued by an order, imported or found. It
// holds facts only; superseded and expired are computed.
type Version struct {
	ID          ID
	Certificate ID
	Holder      ID
	Order       ID // absent for imports and finds
	Attempt     int
	Issuer      ID
	Authority   ID
	Revision    int64
	Serial      Serial
	Fingerprint Digest // SHA-256 of the leaf's DER
	SPKI        Digest
	Algorithm   KeyAlgorithm
	NotBefore   time.Time
	NotAfter    time.Time
	Leaf        []byte // DER
	Chain       Chain  // without the leaf and without the root
	Origin      VersionOrigin
	Purpose     VersionPurpose
	Replaces    ID
	RenewAt     time.Time
	RevokedAt   time.Time
	Revocation  RevocationReason
	CreatedAt   time.Time
}

// VersionOrigin says how a version came to be known.
type VersionOrigin string

const (
	VersionIssued   VersionOrigin = "issued"
	VersionImported VersionOrigin = "imported"
	VersionFound    VersionOrigin = "found"
	VersionOrphan   VersionOrigin = "orphan" // came too late for its order; revocable
)

// VersionPurpose tells the platform's own certificates from the users'.
type VersionPurpose string

const (
	PurposeUser   VersionPurpose = "user"
	PurposeSystem VersionPurpose = "system"
)

// Chain is a list of DER certificates, each signed by the next. A chain is
// stored once, under its digest.
type Chain [][]byte

// Digest identifies the chain: SHA-256 over the certificates one after the other.
func (c Chain) Digest() Digest {
	var all []byte
	for _, der := range c {
		all = append(all, der...)
	}
	return DigestOf(all)
}

// PEM returns the leaf followed by the chain.
func (c Chain) PEM(leaf []byte) []byte {
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	for _, der := range c {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// Serial is a certificate's serial number in canonical text: an even number of
// lower-case hex digits of the magnitude without leading zero octets.
type Serial string

// SerialOf returns the canonical text of n, which must be positive.
func SerialOf(n *big.Int) Serial { return Serial(hex.EncodeToString(n.Bytes())) }

// ParseSerial accepts colons, upper case, 0x and leading zeros.
func ParseSerial(s string) (Serial, error) {
	clean := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	clean = strings.TrimLeft(strings.TrimPrefix(clean, "0x"), "0")
	if len(clean)%2 == 1 {
		clean = "0" + clean
	}
	if clean == "" || len(clean) > 2*20 {
		return "", Errorf(Invalid, "%q is not a serial number of 1 to 20 octets", Clip(s, 60))
	}
	if _, err := hex.DecodeString(clean); err != nil {
		return "", Errorf(Invalid, "%q is not a serial number in hex digits", Clip(s, 60))
	}
	return Serial(clean), nil
}

// Int returns the number.
func (s Serial) Int() *big.Int {
	n, _ := new(big.Int).SetString(string(s), 16)
	return n
}

// RevocationReason is a CRLReason (RFC 5280 section 5.3.1) that may be given.
type RevocationReason string

const (
	ReasonUnspecified          RevocationReason = "unspecified"
	ReasonKeyCompromise        RevocationReason = "keyCompromise"
	ReasonAffiliationChanged   RevocationReason = "affiliationChanged"
	ReasonSuperseded           RevocationReason = "superseded"
	ReasonCessationOfOperation RevocationReason = "cessationOfOperation"
	ReasonPrivilegeWithdrawn   RevocationReason = "privilegeWithdrawn"
)

var reasonCodes = map[RevocationReason]int{
	ReasonUnspecified: 0, ReasonKeyCompromise: 1, ReasonAffiliationChanged: 3, ReasonSuperseded: 4,
	ReasonCessationOfOperation: 5, ReasonPrivilegeWithdrawn: 9,
}

// Code returns the CRLReason number and whether the reason may be given.
// certificateHold is not: a leaf that may come back is a leaf nobody can trust.
func (r RevocationReason) Code() (int, bool) {
	code, known := reasonCodes[r]
	return code, known
}

// NamesOf returns the normalised subject alternative names of a certificate.
func NamesOf(leaf *x509.Certificate) (Names, error) {
	return namesFrom(leaf.DNSNames, leaf.EmailAddresses, leaf.IPAddresses, leaf.URIs)
}

// NamesOfCSR returns the normalised subject alternative names that a request
// asks for. A common name counts only when it is also among them (RFC 6125
// section 6.4.4).
func NamesOfCSR(csr *x509.CertificateRequest) (Names, error) {
	return namesFrom(csr.DNSNames, csr.EmailAddresses, csr.IPAddresses, csr.URIs)
}

func namesFrom(dns, email []string, ips []net.IP, uris []*url.URL) (Names, error) {
	n := Names{DNS: dns, Email: email}
	for _, ip := range ips {
		addr, _ := netip.AddrFromSlice(ip) // an odd length gives the invalid address, which Normalize refuses
		n.IP = append(n.IP, addr)
	}
	for _, uri := range uris {
		n.URI = append(n.URI, uri.String())
	}
	return n.Normalize()
}
