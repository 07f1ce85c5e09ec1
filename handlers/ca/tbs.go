package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// tbs encodes what will be signed, as x509.CreateCertificate would: a fuzz test holds
// each octet against it. It takes half of the time, since it knows what leaves of
// ours are made of, does not look at Go types while it encodes, and does not sign.
func (a *Authority) tbs(leaf *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	key, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	e := encoder{cryptobyte.NewBuilder(make([]byte, 0, 1024))}
	e.sequence(func(e encoder) {
		e.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // version 3
		e.AddASN1BigInt(leaf.SerialNumber)
		e.AddBytes(a.signing.identifier)
		e.AddBytes(a.Certificate.RawSubject)
		e.sequence(func(e encoder) {
			e.time(leaf.NotBefore)
			e.time(leaf.NotAfter)
		})
		e.subject(leaf.Subject.CommonName)
		e.AddBytes(key)
		e.AddASN1(context(3).Constructed(), func(b *cryptobyte.Builder) {
			encoder{b}.sequence(func(e encoder) { e.extensions(leaf, a.Certificate) })
		})
	})
	return e.Bytes()
}

// signing is how a key of a kind signs certificates.
type signing struct {
	opts       crypto.SignerOpts
	identifier []byte // the AlgorithmIdentifier, encoded
}

// signingOf returns what x509.CreateCertificate takes for a public key when nothing
// else is said.
func signingOf(public crypto.PublicKey) (signing, error) {
	switch public := public.(type) {
	case *rsa.PublicKey: // sha256WithRSAEncryption, whose parameters are NULL
		return signing{crypto.SHA256, []byte("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00")}, nil
	case *ecdsa.PublicKey: // ecdsa-with-SHA256, -384 and -512
		switch public.Curve {
		case elliptic.P256():
			return signing{crypto.SHA256, []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")}, nil
		case elliptic.P384():
			return signing{crypto.SHA384, []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03")}, nil
		case elliptic.P521():
			return signing{crypto.SHA512, []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04")}, nil
		}
	case ed25519.PublicKey:
		return signing{crypto.Hash(0), []byte("\x30\x05\x06\x03\x2b\x65\x70")}, nil
	}
	return signing{}, certctl.Errorf(certctl.Invalid, "certificates cannot be signed with a key of type %T", public)
}

// Object identifiers of extensions and of what stands in them.
var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP             = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
)

// oidsOfUsages are those of extendedKeyUsages.
var oidsOfUsages = map[x509.ExtKeyUsage]asn1.ObjectIdentifier{
	x509.ExtKeyUsageServerAuth: {1, 3, 6, 1, 5, 5, 7, 3, 1}, x509.ExtKeyUsageClientAuth: {1, 3, 6, 1, 5, 5, 7, 3, 2},
	x509.ExtKeyUsageCodeSigning: {1, 3, 6, 1, 5, 5, 7, 3, 3}, x509.ExtKeyUsageEmailProtection: {1, 3, 6, 1, 5, 5, 7, 3, 4},
}

func context(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }

// encoder adds parts of a certificate. The first error ends it.
type encoder struct{ *cryptobyte.Builder }

func (e encoder) sequence(parts func(encoder)) {
	e.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { parts(encoder{b}) })
}

func (e encoder) text(tag cbasn1.Tag, text string) {
	e.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
}

// ia5 adds a text of ASCII characters.
func (e encoder) ia5(tag cbasn1.Tag, text string) {
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		e.SetError(certctl.Errorf(certctl.Invalid, "%q has other characters than those of ASCII", certctl.Clip(text, 80)))
		return
	}
	e.text(tag, text)
}

// time is UTCTime until 2049, and GeneralizedTime after (RFC 5280 section 4.1.2.5).
func (e encoder) time(t time.Time) {
	if t = t.UTC(); t.Year() >= 1950 && t.Year() < 2050 {
		e.AddASN1UTCTime(t)
		return
	}
	e.AddASN1GeneralizedTime(t)
}

// subject is empty, or has the common name.
func (e encoder) subject(name string) {
	e.sequence(func(e encoder) {
		if name == "" {
			return
		}
		tag := cbasn1.UTF8String
		if !utf8.ValidString(name) {
			e.SetError(certctl.Errorf(certctl.Invalid, "the common name %q is not UTF-8", certctl.Clip(name, 80)))
		} else if !strings.ContainsFunc(name, func(r rune) bool { return !printable(r) }) {
			tag = cbasn1.PrintableString
		}
		e.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			encoder{b}.sequence(func(e encoder) {
				e.AddASN1ObjectIdentifier(oidCommonName)
				e.text(tag, name)
			})
		})
	})
}

// printable reports whether a PrintableString may have the character.
func printable(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

func (e encoder) extension(oid asn1.ObjectIdentifier, critical bool, value func(encoder)) {
	e.sequence(func(e encoder) {
		e.AddASN1ObjectIdentifier(oid)
		if critical {
			e.AddASN1Boolean(true)
		}
		e.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { value(encoder{b}) })
	})
}

// extensions are those that template makes, in the order of x509.CreateCertificate.
func (e encoder) extensions(leaf, authority *x509.Certificate) {
	e.extension(oidKeyUsage, true, func(e encoder) { e.keyUsage(leaf.KeyUsage) })
	if len(leaf.ExtKeyUsage) > 0 {
		e.extension(oidExtKeyUsage, false, func(e encoder) {
			e.sequence(func(e encoder) {
				for _, usage := range leaf.ExtKeyUsage {
					e.AddASN1ObjectIdentifier(oidsOfUsages[usage])
				}
			})
		})
	}
	e.extension(oidBasicConstraints, true, func(e encoder) { e.sequence(func(encoder) {}) }) // no CA
	e.extension(oidSubjectKeyID, false, func(e encoder) { e.AddASN1OctetString(leaf.SubjectKeyId) })
	if id := authority.SubjectKeyId; len(id) > 0 {
		e.extension(oidAuthorityKeyID, false, func(e encoder) {
			e.sequence(func(e encoder) { e.text(context(0), string(id)) })
		})
	}
	e.extension(oidAuthorityInfo, false, func(e encoder) {
		e.sequence(func(e encoder) {
			e.access(oidOCSP, leaf.OCSPServer)
			e.access(oidCAIssuers, leaf.IssuingCertificateURL)
		})
	})
	if len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses)+len(leaf.URIs) > 0 {
		e.extension(oidSAN, leaf.Subject.CommonName == "", func(e encoder) { e.names(leaf) })
	}
	if len(leaf.CRLDistributionPoints) > 0 {
		e.extension(oidCRLPoints, false, func(e encoder) { e.distributionPoints(leaf.CRLDistributionPoints) })
	}
	for _, extra := range leaf.ExtraExtensions {
		e.extension(extra.Id, extra.Critical, func(e encoder) { e.AddBytes(extra.Value) })
	}
}

// keyUsage adds the bits of the first octet; leaves have no other ones. The last
// octet of a named bit list ends with its last bit (X.690 section 11.2.2).
func (e encoder) keyUsage(usage x509.KeyUsage) {
	octet, unused := byte(0), byte(8)
	for bit := range byte(8) {
		if usage>>bit&1 != 0 {
			octet |= 0x80 >> bit
			unused = 7 - bit
		}
	}
	e.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes([]byte{unused, octet}) })
}

func (e encoder) access(method asn1.ObjectIdentifier, urls []string) {
	for _, url := range urls {
		e.sequence(func(e encoder) {
			e.AddASN1ObjectIdentifier(method)
			e.text(context(6), url)
		})
	}
}

func (e encoder) names(leaf *x509.Certificate) {
	e.sequence(func(e encoder) {
		for _, name := range leaf.DNSNames {
			e.ia5(context(2), name)
		}
		for _, address := range leaf.EmailAddresses {
			e.ia5(context(1), address)
		}
		for _, address := range leaf.IPAddresses {
			octets := address
			if four := address.To4(); four != nil {
				octets = four
			}
			e.text(context(7), string(octets))
		}
		for _, uri := range leaf.URIs {
			e.ia5(context(6), uri.String())
		}
	})
}

func (e encoder) distributionPoints(urls []string) {
	e.sequence(func(e encoder) {
		for _, url := range urls {
			e.sequence(func(e encoder) {
				e.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(context(0).Constructed(), func(b *cryptobyte.Builder) { encoder{b}.text(context(6), url) })
				})
			})
		}
	})
}
