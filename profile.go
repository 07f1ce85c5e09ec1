package certctl

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ExtendedKeyUsage is what a leaf's key may be used for (RFC 5280 section
// 4.2.1.12).
type ExtendedKeyUsage string

const (
	ServerAuth      ExtendedKeyUsage = "server_auth"
	ClientAuth      ExtendedKeyUsage = "client_auth"
	CodeSigning     ExtendedKeyUsage = "code_signing"
	EmailProtection ExtendedKeyUsage = "email_protection"
)

// Bounds of a profile's validity. Shorter leaves cannot be renewed in time by
// anything; longer ones outlive every issuing CA that we make.
const (
	MinValidity = 5 * time.Minute
	MaxValidity = 1825 * Day
	// ShortLived is the validity up to which revocation information may be
	// left out (RFC 9608, and the CA/Browser Forum's short-lived certificates).
	ShortLived = 7 * Day
)

// Profile says what may be issued.
type Profile struct {
	ID            ID                 `json:"id,omitzero"`
	Team          string             `json:"team,omitempty"`
	Name          string             `json:"name"`
	Description   string             `json:"description,omitempty"`
	KeyAlgorithms []KeyAlgorithm     `json:"key_algorithms"` // allowed; the first is what agents make
	Validity      Duration           `json:"validity"`
	EKUs          []ExtendedKeyUsage `json:"extended_key_usages"`
	NameRules     NameRules          `json:"name_rules"`
	Approval      bool               `json:"approval"`      // orders wait for a person
	ReuseKey      bool               `json:"reuse_key"`     // renew with the same key
	NoRevocation  bool               `json:"no_revocation"` // omit CRL and OCSP (RFC 9608); at most ShortLived
	CreatedAt     time.Time          `json:"created_at,omitzero"`
	UpdatedAt     time.Time          `json:"updated_at,omitzero"`
}

// NameRules restrict the names of a profile's certificates. An empty list of
// patterns allows every name of that type; a type must be switched on to be
// used at all.
type NameRules struct {
	DNS       bool     `json:"dns"`
	Wildcards bool     `json:"wildcards"`
	IP        bool     `json:"ip"`
	URI       bool     `json:"uri"`
	Email     bool     `json:"email"`
	Allow     []string `json:"allow,omitempty"` // DNS patterns: "example.com", "*.example.com" (any depth below)
	Deny      []string `json:"deny,omitempty"`
}

// DefaultProfile is the profile "server": TLS servers, 90 days, ECDSA first.
func DefaultProfile() Profile {
	return Profile{
		Name: "server", Description: "TLS servers",
		KeyAlgorithms: []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096},
		Validity:      Duration(90 * Day), EKUs: []ExtendedKeyUsage{ServerAuth},
		NameRules: NameRules{DNS: true, Wildcards: true, IP: true},
	}
}

// Validate refuses a profile that cannot issue anything.
func (p Profile) Validate() error {
	var bad FieldErrors
	bad.AddError("/name", CheckObjectName(p.Name))
	if len(p.KeyAlgorithms) == 0 {
		bad.Add("/key_algorithms", "at least one is needed")
	}
	for _, algorithm := range p.KeyAlgorithms {
		if !slices.Contains(KeyAlgorithms, algorithm) {
			bad.Add("/key_algorithms", "unknown key algorithm %q", Clip(string(algorithm), 40))
		}
	}
	if v := time.Duration(p.Validity); v < MinValidity || v > MaxValidity {
		bad.Add("/validity", "must be between %s and %s", Duration(MinValidity), Duration(MaxValidity))
	}
	if len(p.EKUs) == 0 {
		bad.Add("/extended_key_usages", "at least one is needed")
	}
	for _, eku := range p.EKUs {
		if !slices.Contains([]ExtendedKeyUsage{ServerAuth, ClientAuth, CodeSigning, EmailProtection}, eku) {
			bad.Add("/extended_key_usages", "unknown extended key usage %q", Clip(string(eku), 40))
		}
	}
	if r := p.NameRules; !r.DNS && !r.IP && !r.URI && !r.Email {
		bad.Add("/name_rules", "allow at least one type of name")
	}
	if p.NoRevocation && time.Duration(p.Validity) > ShortLived {
		bad.Add("/no_revocation", "only for a validity of at most %s", Duration(ShortLived))
	}
	return bad.Err()
}

// CheckNames refuses names that the profile does not allow, each with its field.
func (p Profile) CheckNames(n Names) error {
	var bad FieldErrors
	if n.Len() == 0 {
		bad.Add("/dns_names", "a certificate needs at least one name")
	}
	for i, name := range n.DNS {
		if reason := p.NameRules.refuseDNS(name); reason != "" {
			bad.Add("/dns_names/"+strconv.Itoa(i), "%s: %s", Clip(name, 80), reason)
		}
	}
	for _, kind := range []struct {
		field   string
		count   int
		allowed bool
	}{
		{"/ip_addresses", len(n.IP), p.NameRules.IP},
		{"/uris", len(n.URI), p.NameRules.URI},
		{"/email_addresses", len(n.Email), p.NameRules.Email},
	} {
		if kind.count > 0 && !kind.allowed {
			bad.Add(kind.field, "profile %s does not allow names of this type", p.Name)
		}
	}
	return bad.Err()
}

// CheckKey refuses a key whose algorithm the profile does not allow.
func (p Profile) CheckKey(algorithm KeyAlgorithm) error {
	if slices.Contains(p.KeyAlgorithms, algorithm) {
		return nil
	}
	return Errorf(Invalid, "profile %s does not allow %s keys", p.Name, algorithm).
		WithRemedy("use one of %v", p.KeyAlgorithms)
}

func (r NameRules) refuseDNS(name string) string {
	base, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case !r.DNS:
		return "the profile allows no DNS names"
	case wildcard && !r.Wildcards:
		return "the profile allows no wildcards"
	case slices.ContainsFunc(r.Deny, func(p string) bool { return matchDNS(p, base) }):
		return "the profile denies this name"
	case len(r.Allow) > 0 && !slices.ContainsFunc(r.Allow, func(p string) bool { return matchDNS(p, base) }):
		return "not among the names that the profile allows"
	}
	return ""
}

// matchDNS matches "example.com" exactly and "*.example.com" at any depth.
func matchDNS(pattern, name string) bool {
	if suffix, below := strings.CutPrefix(pattern, "*."); below {
		return strings.HasSuffix(name, "."+suffix)
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
