package ca

import (
	"crypto"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/certctl/certctl"
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
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

// rules builds the registry once; it cannot fail with the names above.
var rules = sync.OnceValues(func() (lint.Registry, error) {
	return lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: privateSources, ExcludeNames: exceptions})
})

// errCaptured ends x509.CreateCertificate once the to-be-signed bytes are known.
var errCaptured = errors.New("captured")

// captor takes the to-be-signed bytes and signs nothing.
type captor struct {
	crypto.Signer
	tbs  []byte
	opts crypto.SignerOpts
}

func (c *captor) SignMessage(_ io.Reader, tbs []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.tbs, c.opts = tbs, opts
	return nil, errCaptured
}

// unsigned stands for the signature while a certificate is linted.
var unsigned = []byte{0}

// lintBytes lints to-be-signed bytes, with a dummy signature around them.
func lintBytes(tbs []byte) (warnings int, err error) {
	registry, err := rules()
	if err != nil {
		return 0, certctl.Wrap(certctl.Internal, err, "the lint rules cannot be read")
	}
	der, err := wrap(tbs, unsigned)
	if err != nil {
		return 0, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return 0, certctl.Wrap(certctl.Invalid, err, "the certificate that would be signed cannot be parsed")
	}
	var broken []string
	for name, result := range zlint.LintCertificateEx(certificate, registry).Results {
		switch result.Status {
		case lint.Error, lint.Fatal:
			broken = append(broken, name)
		case lint.Warn:
			warnings++
		}
	}
	if len(broken) > 0 {
		return 0, certctl.Errorf(certctl.Invalid, "the certificate would break %s", strings.Join(broken, ", ")).
			WithRemedy("see the rules of that name in zlint's documentation")
	}
	return warnings, nil
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
