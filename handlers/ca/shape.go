package ca

import (
	"encoding/binary"
	"maps"
	"math/big"
	"net"
	"slices"
	"time"

	"github.com/zmap/zcrypto/encoding/asn1"
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zcrypto/x509/pkix"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A leaf's shape is its to-be-signed bytes without what varies from one leaf of a
// profile to the next: two leaves of one shape have all other octets in common,
// extensions that nobody has thought of included. What varies is
//
//	the serial number, the times, the value of the common name, the key's bits,
//	and the values of the extensions SAN, subject key identifier and CRL
//	distribution points
//
// as far as it looks as usual: a subject that is empty or one common name, times as
// UTCTime with seconds and Z, names of the types DNS, e-mail, URI and IP, one
// distribution point with one URI. Which types of names there are belongs to the
// shape. A leaf that looks different has no shape, and all rules look at it.

// varying is what a leaf has of its own.
type varying struct {
	tbs                 []byte
	serial              *big.Int
	notBefore, notAfter time.Time
	subject, key        []byte // elements
	facts               facts  // which of them the leaf has
	names               names
	values              [3][]byte // of the varyingExtensions
	keyID               []byte
	list                string // the URL of the revocation list
}

// names are those of the SAN extension.
type names struct {
	dns, email, uri []string
	ip              []net.IP
}

// Extensions whose values vary.
const (
	extSAN = iota
	extKeyID
	extList
)

// varyingExtensions are their identifiers, in words, and as they are encoded.
var varyingExtensions = [3]struct{ id, contents string }{
	extSAN: {"2.5.29.17", "\x55\x1d\x11"}, extKeyID: {"2.5.29.14", "\x55\x1d\x0e"}, extList: {"2.5.29.31", "\x55\x1d\x1f"},
}

// varies says which of them an extension is, or -1.
func varies(oid []byte) int {
	for which, extension := range varyingExtensions {
		if string(oid) == extension.contents {
			return which
		}
	}
	return -1
}

// cutter walks through to-be-signed bytes. What it keeps makes the key of the
// shape; elements say themselves where they end, so that two shapes never have
// one key. The first thing that looks unusual stops it.
type cutter struct {
	cryptobyte.String
	key []byte
	bad bool
}

// keep is for elements that belong to the shape.
func (c *cutter) keep(tag cbasn1.Tag) {
	c.key = append(c.key, c.take(tag)...)
}

// take is for elements that vary.
func (c *cutter) take(tag cbasn1.Tag) cryptobyte.String {
	var element cryptobyte.String
	c.bad = c.bad || !c.ReadASN1Element(&element, tag)
	return element
}

// cut divides to-be-signed bytes into the key of their shape, appended to key, and
// what varies. Without ok they have no shape.
func cut(key, tbs []byte) (_ []byte, v varying, ok bool) {
	v.tbs = tbs
	outer, c := cryptobyte.String(tbs), cutter{key: key}
	if !outer.ReadASN1(&c.String, cbasn1.SEQUENCE) || !outer.Empty() {
		return key, v, false
	}
	c.keep(cbasn1.Tag(0).ContextSpecific().Constructed()) // version
	serial := c.take(cbasn1.INTEGER)
	c.keep(cbasn1.SEQUENCE) // algorithm of the signature
	c.keep(cbasn1.SEQUENCE) // issuer
	validity := c.take(cbasn1.SEQUENCE)
	subject := c.take(cbasn1.SEQUENCE)
	public := c.take(cbasn1.SEQUENCE)
	extensions := c.take(cbasn1.Tag(3).ContextSpecific().Constructed())
	v.serial, v.subject, v.key = new(big.Int), subject, public
	if c.bad || !c.Empty() || !serial.ReadASN1Integer(v.serial) || !v.cutValidity(validity) {
		return key, v, false
	}
	v.facts = factSerial | factKey
	ok = v.cutSubject(&c, subject) && cutKey(&c, public) && v.cutExtensions(&c, extensions)
	return c.key, v, ok
}

func (v *varying) cutValidity(element cryptobyte.String) bool {
	var validity cryptobyte.String
	return element.ReadASN1(&validity, cbasn1.SEQUENCE) &&
		readUTCTime(&validity, &v.notBefore) && readUTCTime(&validity, &v.notAfter) && validity.Empty()
}

// readUTCTime reads YYMMDDhhmmssZ, the only form that RFC 5280 allows before 2050.
func readUTCTime(s *cryptobyte.String, t *time.Time) bool {
	form, octets := *s, cryptobyte.String{}
	return form.ReadASN1(&octets, cbasn1.UTCTime) && len(octets) == len("YYMMDDhhmmssZ") && octets[len(octets)-1] == 'Z' &&
		s.ReadASN1UTCTime(t)
}

// cutSubject keeps of the subject whether it is empty, and otherwise how its
// common name is encoded.
func (v *varying) cutSubject(c *cutter, element cryptobyte.String) bool {
	var subject, set, attribute, oid, value cryptobyte.String
	if !element.ReadASN1(&subject, cbasn1.SEQUENCE) {
		return false
	}
	if subject.Empty() {
		c.key = append(c.key, 0)
		return true
	}
	v.facts |= factSubject
	var tag cbasn1.Tag
	ok := subject.ReadASN1(&set, cbasn1.SET) && subject.Empty() && set.ReadASN1(&attribute, cbasn1.SEQUENCE) && set.Empty() &&
		attribute.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) && string(oid) == "\x55\x04\x03" &&
		attribute.ReadAnyASN1(&value, &tag) && attribute.Empty() && (tag == cbasn1.PrintableString || tag == cbasn1.UTF8String)
	c.key = append(c.key, byte(tag))
	return ok
}

// cutKey keeps of the public key its algorithm and how long it is.
func cutKey(c *cutter, element cryptobyte.String) bool {
	var public, algorithm, bits cryptobyte.String
	ok := element.ReadASN1(&public, cbasn1.SEQUENCE) && public.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) &&
		public.ReadASN1(&bits, cbasn1.BIT_STRING) && public.Empty()
	c.key = binary.BigEndian.AppendUint32(append(c.key, algorithm...), uint32(len(bits)))
	return ok
}

// cutExtensions keeps all extensions in their order, but for the values that vary.
func (v *varying) cutExtensions(c *cutter, element cryptobyte.String) bool {
	var outer, extensions cryptobyte.String
	if !element.ReadASN1(&outer, cbasn1.Tag(3).ContextSpecific().Constructed()) || !outer.ReadASN1(&extensions, cbasn1.SEQUENCE) || !outer.Empty() {
		return false
	}
	for !extensions.Empty() {
		var whole, extension, oid, value cryptobyte.String
		if !extensions.ReadASN1Element(&whole, cbasn1.SEQUENCE) {
			return false
		}
		inner := whole
		if !inner.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
			return false
		}
		which := varies(oid)
		if which < 0 {
			c.key = append(c.key, whole...)
			continue
		}
		critical := extension
		if !extension.SkipOptionalASN1(cbasn1.BOOLEAN) {
			return false
		}
		critical = critical[:len(critical)-len(extension)]
		if v.values[which] != nil || !extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !extension.Empty() || len(value) == 0 {
			return false
		}
		v.values[which] = value
		types, ok := v.cutValue(which, value)
		if !ok {
			return false
		}
		c.key = append(append(append(c.key, oid...), types), critical...)
	}
	return true
}

// cutValue reads the value of an extension that varies; types says more of what
// belongs to the shape.
func (v *varying) cutValue(which int, value cryptobyte.String) (types byte, ok bool) {
	switch which {
	case extSAN:
		v.facts |= factSAN
		return v.cutNames(value)
	case extKeyID:
		var id cryptobyte.String
		ok = value.ReadASN1(&id, cbasn1.OCTET_STRING) && value.Empty() && len(id) < 256
		v.keyID = id
		return byte(len(id)), ok
	default:
		v.facts |= factList
		return 0, v.cutList(value)
	}
}

// cutNames keeps of the names of which types there are any.
func (v *varying) cutNames(value cryptobyte.String) (types byte, ok bool) {
	var list cryptobyte.String
	if !value.ReadASN1(&list, cbasn1.SEQUENCE) || !value.Empty() {
		return 0, false
	}
	for !list.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&name, &tag) {
			return 0, false
		}
		switch {
		case tag == cbasn1.Tag(1).ContextSpecific():
			v.names.email, v.facts, types = append(v.names.email, string(name)), v.facts|factEmail, types|1
		case tag == cbasn1.Tag(2).ContextSpecific():
			v.names.dns, v.facts, types = append(v.names.dns, string(name)), v.facts|factDNS, types|2
		case tag == cbasn1.Tag(6).ContextSpecific():
			v.names.uri, v.facts, types = append(v.names.uri, string(name)), v.facts|factURI, types|4
		case tag == cbasn1.Tag(7).ContextSpecific() && (len(name) == net.IPv4len || len(name) == net.IPv6len):
			v.names.ip, types = append(v.names.ip, net.IP(name)), types|8
		default:
			return 0, false
		}
	}
	return types, true
}

// cutList reads one distribution point with one URI and nothing else
// (RFC 5280 section 4.2.1.13).
func (v *varying) cutList(value cryptobyte.String) bool {
	var points, point, name, full, uri cryptobyte.String
	zero := cbasn1.Tag(0).ContextSpecific().Constructed()
	ok := value.ReadASN1(&points, cbasn1.SEQUENCE) && value.Empty() && points.ReadASN1(&point, cbasn1.SEQUENCE) && points.Empty() &&
		point.ReadASN1(&name, zero) && point.Empty() && name.ReadASN1(&full, zero) && name.Empty() &&
		full.ReadASN1(&uri, cbasn1.Tag(6).ContextSpecific()) && full.Empty()
	v.list = string(uri)
	return ok
}

// fill makes another leaf of like's shape: like with what varies exchanged. It is
// what parse would return, but for the octets of the whole and their hashes, which
// it does not have. What parse would refuse it refuses, too.
func (v *varying) fill(like x509.Certificate) (*x509.Certificate, error) {
	leaf := &like
	var err error
	if leaf.PublicKey, err = x509.ParsePKIXPublicKey(v.key); err != nil {
		return nil, err
	}
	var subject pkix.RDNSequence
	if _, err := asn1.Unmarshal(v.subject, &subject); err != nil {
		return nil, err
	}
	leaf.Subject = pkix.Name{}
	leaf.Subject.FillFromRDNSequence(&subject)
	leaf.RawTBSCertificate, leaf.RawSubject, leaf.RawSubjectPublicKeyInfo = v.tbs, v.subject, v.key
	leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter = v.serial, v.notBefore, v.notAfter
	leaf.ValidityPeriod = int(v.notAfter.Sub(v.notBefore).Seconds())
	leaf.DNSNames, leaf.EmailAddresses, leaf.URIs, leaf.IPAddresses = v.names.dns, v.names.email, v.names.uri, v.names.ip
	leaf.CRLDistributionPoints = nil
	if v.facts&factList != 0 {
		leaf.CRLDistributionPoints = []string{v.list}
	}
	leaf.SubjectKeyId = v.keyID
	leaf.Extensions, leaf.ExtensionsMap = slices.Clone(leaf.Extensions), maps.Clone(leaf.ExtensionsMap)
	for which, value := range v.values {
		id := varyingExtensions[which].id
		extension, ok := leaf.ExtensionsMap[id]
		if !ok {
			continue
		}
		extension.Value = value
		leaf.ExtensionsMap[id] = extension
		for i := range leaf.Extensions {
			if leaf.Extensions[i].Id.Equal(extension.Id) {
				leaf.Extensions[i] = extension
			}
		}
	}
	return leaf, nil
}
