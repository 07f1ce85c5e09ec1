package ca

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/zmap/zcrypto/x509"
	_ "github.com/zmap/zlint/v3" // registers the rules
	"github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// privateSources are the rules that a private authority's leaves must meet. The
// rules of public programmes would refuse every private server certificate.
var privateSources = lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813}

// exceptions are rules of those sources that forbid what private names need:
// underscores, and URIs whose host is a name of a service.
var exceptions = []string{
	"e_rfc_dnsname_underscore_in_sld", "w_rfc_dnsname_underscore_in_trd", "e_ext_san_uri_host_not_fqdn_or_ip",
}

// ruleset is what leaves are linted by.
type ruleset struct {
	rules         []*lint.CertificateLint
	configuration lint.Configuration
	changes       []time.Time // when rules begin and cease to be in force, in order
	unclassified  bool        // there is a rule of which nobody has said what it reads
}

// rules reads the registry once; it cannot fail with the names above.
var rules = sync.OnceValues(func() (*ruleset, error) {
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: privateSources, ExcludeNames: exceptions})
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the lint rules cannot be read")
	}
	return newRuleset(registry.CertificateLints().Lints(), registry.GetConfiguration()), nil
})

func newRuleset(rules []*lint.CertificateLint, configuration lint.Configuration) *ruleset {
	set := &ruleset{rules: rules, configuration: configuration}
	for _, rule := range set.rules {
		_, classified := reads[rule.Name]
		set.unclassified = set.unclassified || !classified
		set.changes = append(set.changes, rule.EffectiveDate, rule.IneffectiveDate)
	}
	slices.SortFunc(set.changes, time.Time.Compare)
	set.changes = slices.CompactFunc(set.changes, time.Time.Equal)
	return set
}

// era says which rules are in force for a leaf that begins then: the same ones for
// all leaves of an era.
func (s *ruleset) era(notBefore time.Time) uint16 {
	n, begins := slices.BinarySearchFunc(s.changes, notBefore, time.Time.Compare)
	if begins {
		n++
	}
	return uint16(n) //nolint:gosec // there are some hundred rules
}

// verdict is what rules say of a leaf.
type verdict struct {
	warnings int
	broken   []string // names of rules
}

// add lets one rule look at a leaf.
func (v *verdict) add(rule *lint.CertificateLint, leaf *x509.Certificate, configuration lint.Configuration) {
	switch rule.Execute(leaf, configuration).Status {
	case lint.Error, lint.Fatal:
		v.broken = append(v.broken, rule.Name)
	case lint.Warn:
		v.warnings++
	}
}

// equal reports whether two verdicts say the same, in whichever order.
func (v verdict) equal(other verdict) bool {
	return v.warnings == other.warnings &&
		slices.Equal(slices.Sorted(slices.Values(v.broken)), slices.Sorted(slices.Values(other.broken)))
}

// err refuses a leaf that breaks a rule.
func (v verdict) err() error {
	if len(v.broken) == 0 {
		return nil
	}
	return certctl.Errorf(certctl.Invalid, "the certificate would break %s", strings.Join(v.broken, ", ")).
		WithRemedy("see the rules of that name in zlint's documentation")
}

// judge lets all rules look at a leaf.
func (s *ruleset) judge(leaf *x509.Certificate) (v verdict) {
	for _, rule := range s.rules {
		v.add(rule, leaf, s.configuration)
	}
	return v
}

// unsigned stands for the signature while a certificate is linted.
var unsigned = []byte{0}

// parse reads to-be-signed bytes as the rules need them.
func parse(tbs []byte) (*x509.Certificate, error) {
	der, err := wrap(tbs, unsigned)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the certificate that would be signed cannot be parsed")
	}
	return leaf, nil
}

// lint lets all rules look at to-be-signed bytes.
func (s *ruleset) lint(tbs []byte) (verdict, error) {
	leaf, err := parse(tbs)
	if err != nil {
		return verdict{}, err
	}
	return s.judge(leaf), nil
}

// wrap puts a signature around to-be-signed bytes. Its algorithm is the one that the
// bytes themselves name (RFC 5280 section 4.1.1.2).
func wrap(tbs, signature []byte) ([]byte, error) {
	outer, algorithm := cryptobyte.String(tbs), cryptobyte.String{}
	if !outer.ReadASN1(&outer, cbasn1.SEQUENCE) ||
		!outer.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) || !outer.SkipASN1(cbasn1.INTEGER) ||
		!outer.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) {
		return nil, certctl.Errorf(certctl.Internal, "the bytes to be signed cannot be read")
	}
	b := cryptobyte.NewFixedBuilder(make([]byte, 0, len(tbs)+len(algorithm)+len(signature)+16))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the bytes to be signed cannot be wrapped")
	}
	return der, nil
}
