package certctl

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Limits of what one certificate may name. They bound parsing, storage and the
// size of a leaf.
const (
	MaxNames      = 250 // subject alternative names of one certificate
	maxDNSName    = 253 // RFC 1035 section 2.3.4, in text form
	maxLabel      = 63
	maxURI        = 2000
	maxEmail      = 254
	maxObjectName = 100
)

// Names are the typed subject alternative names of a certificate (RFC 5280
// section 4.2.1.6), normalised: lower case, sorted, unique.
type Names struct {
	DNS   []string     `json:"dns_names,omitempty"`
	IP    []netip.Addr `json:"ip_addresses,omitempty"`
	URI   []string     `json:"uris,omitempty"`
	Email []string     `json:"email_addresses,omitempty"`
}

// Normalize returns the names in canonical form, or an error with a field for
// each name that cannot stand in a certificate. Internationalised DNS names
// must be given in their A-label form ("xn--…", RFC 5890).
func (n Names) Normalize() (Names, error) {
	var out Names
	var bad FieldErrors
	for i, name := range n.DNS {
		clean, err := normalizeDNS(name)
		if err != nil {
			bad.Add(fmt.Sprintf("/dns_names/%d", i), "%s", ErrorMessage(err))
			continue
		}
		out.DNS = append(out.DNS, clean)
	}
	for i, addr := range n.IP {
		if !addr.IsValid() || addr.Zone() != "" || addr.IsUnspecified() {
			bad.Add(fmt.Sprintf("/ip_addresses/%d", i), "not an address that a certificate can name")
			continue
		}
		out.IP = append(out.IP, addr.Unmap())
	}
	for i, uri := range n.URI {
		if err := checkURI(uri); err != nil {
			bad.Add(fmt.Sprintf("/uris/%d", i), "%s", ErrorMessage(err))
			continue
		}
		out.URI = append(out.URI, uri)
	}
	for i, email := range n.Email {
		clean, err := normalizeEmail(email)
		if err != nil {
			bad.Add(fmt.Sprintf("/email_addresses/%d", i), "%s", ErrorMessage(err))
			continue
		}
		out.Email = append(out.Email, clean)
	}
	if n.Len() > MaxNames {
		bad.Add("", "%d names, but a certificate holds at most %d", n.Len(), MaxNames)
	}
	out.DNS, out.URI, out.Email = sortedSet(out.DNS), sortedSet(out.URI), sortedSet(out.Email)
	slices.SortFunc(out.IP, netip.Addr.Compare)
	out.IP = slices.Compact(out.IP)
	return out, bad.Err()
}

// Len returns how many names there are.
func (n Names) Len() int { return len(n.DNS) + len(n.IP) + len(n.URI) + len(n.Email) }

// Equal reports whether both hold the same names; both must be normalised.
func (n Names) Equal(o Names) bool {
	return slices.Equal(n.DNS, o.DNS) && slices.Equal(n.IP, o.IP) &&
		slices.Equal(n.URI, o.URI) && slices.Equal(n.Email, o.Email)
}

// Strings returns every name in its text form, for search and display.
func (n Names) Strings() []string {
	out := make([]string, 0, n.Len())
	out = append(out, n.DNS...)
	for _, addr := range n.IP {
		out = append(out, addr.String())
	}
	out = append(out, n.URI...)
	return append(out, n.Email...)
}

// CommonName is the first DNS name if it fits the subject's 64 characters
// (RFC 5280 appendix A.1, ub-common-name), else empty. A name that is not a
// wildcard is preferred.
func (n Names) CommonName() string {
	for _, wildcard := range []bool{false, true} {
		for _, name := range n.DNS {
			if strings.HasPrefix(name, "*.") == wildcard && len(name) <= 64 {
				return name
			}
		}
	}
	return ""
}

func sortedSet(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// normalizeDNS accepts LDH labels (RFC 1034 section 3.5) and underscores, which
// private names use, with an optional leading "*." (RFC 6125 section 6.4.3).
func normalizeDNS(name string) (string, error) {
	clean := strings.ToLower(strings.TrimSuffix(name, "."))
	if clean == "" || len(clean) > maxDNSName {
		return "", Errorf(Invalid, "a DNS name has 1 to %d characters", maxDNSName)
	}
	rest := strings.TrimPrefix(clean, "*.")
	if _, err := netip.ParseAddr(rest); err == nil {
		return "", Errorf(Invalid, "%q is an address: it belongs into ip_addresses", Clip(name, 80))
	}
	for label := range strings.SplitSeq(rest, ".") {
		if err := checkLabel(label); err != nil {
			return "", Errorf(Invalid, "%q: %s", Clip(name, 80), err.Message)
		}
	}
	return clean, nil
}

func checkLabel(label string) *Error {
	if label == "" || len(label) > maxLabel {
		return Errorf(Invalid, "each label has 1 to %d characters", maxLabel)
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return Errorf(Invalid, "a label must not start or end with a hyphen")
	}
	for _, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '*':
			return Errorf(Invalid, "a wildcard is only the whole first label")
		case c >= 0x80:
			return Errorf(Invalid, "give internationalised names in their xn-- form")
		default:
			return Errorf(Invalid, "%q is not allowed in a DNS name", rune(c))
		}
	}
	return nil
}

func checkURI(uri string) error {
	if len(uri) > maxURI {
		return Errorf(Invalid, "a URI has at most %d characters", maxURI)
	}
	for _, c := range uri {
		if c <= ' ' || c >= 0x7f {
			return Errorf(Invalid, "a URI holds printable ASCII only (RFC 3986)")
		}
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || (u.Host == "" && u.Opaque == "") {
		return Errorf(Invalid, "%q is not an absolute URI with a scheme and a host", Clip(uri, 80))
	}
	return nil
}

// normalizeEmail accepts addr-spec with a dot-atom local part (RFC 5321
// section 4.1.2) and lower-cases the domain, which alone is case-insensitive.
func normalizeEmail(email string) (string, error) {
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || len(email) > maxEmail || len(local) > 64 {
		return "", Errorf(Invalid, "%q is not an e-mail address", Clip(email, 80))
	}
	for _, c := range local {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune("()<>[]:;@\\,\"", c) {
			return "", Errorf(Invalid, "%q is not an e-mail address", Clip(email, 80))
		}
	}
	clean, err := normalizeDNS(domain)
	if err != nil || strings.HasPrefix(clean, "*") {
		return "", Errorf(Invalid, "%q has no valid domain", Clip(email, 80))
	}
	return local + "@" + clean, nil
}

// CheckObjectName says whether name can name an object (certificate, target,
// issuer, …). Paths take a name or an id, so what parses as an id is refused.
func CheckObjectName(name string) error {
	if name == "" || len(name) > maxObjectName {
		return Errorf(Invalid, "a name has 1 to %d characters", maxObjectName)
	}
	if _, err := ParseID(name); err == nil {
		return Errorf(Invalid, "a name must not look like an id")
	}
	for i, c := range name {
		switch {
		case c < unicode.MaxASCII && (unicode.IsLetter(c) || unicode.IsDigit(c)):
		case i > 0 && strings.ContainsRune("._-*@", c):
		default:
			return Errorf(Invalid, "a name starts with a letter or digit and holds letters, digits, '.', '_', '-', '@' and '*'; %q does not", Clip(name, 80))
		}
	}
	return nil
}
