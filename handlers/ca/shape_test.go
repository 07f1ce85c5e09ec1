package ca

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/asn1"
	mathrand "math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// draft is a leaf's to-be-signed bytes in parts, as hostile as one likes.
type draft struct {
	serial              []byte // the integer's octets
	notBefore, notAfter moment
	name                []text // of the subject; at most one common name is usual
	names               []text
	ed25519             bool
	key, keyID          []byte
	list                string
	flaw                flaw
}

// text is a value with its tag.
type text struct {
	tag   cbasn1.Tag
	value string
}

type moment = text

// flaw is what is wrong with a draft beyond what varies.
type flaw int

const (
	none            flaw = iota
	usageUncritical      // a warning
	falseCritical        // critical: FALSE is written down
	twice                // an extension
	certSign             // a key usage of CAs
	noUsage
	noList
	twoLists // two distribution points
	uniqueID
	twoNames // two common names
	flaws
)

var (
	tagEmail = cbasn1.Tag(1).ContextSpecific()
	tagDNS   = cbasn1.Tag(2).ContextSpecific()
	tagURI   = cbasn1.Tag(6).ContextSpecific()
	tagIP    = cbasn1.Tag(7).ContextSpecific()
)

// plain is a draft that nothing is wrong with.
func plain(r *mathrand.Rand) draft {
	d := draft{
		serial: octets(r, 20), notBefore: moment{cbasn1.UTCTime, "261130120000Z"}, notAfter: moment{cbasn1.UTCTime, "270130120000Z"},
		name: []text{{cbasn1.PrintableString, "shop.example.com"}}, names: []text{{tagDNS, "shop.example.com"}},
		key: points[r.IntN(len(points))], keyID: octets(r, 20), list: "http://pki.example.com/crl/7.crl",
	}
	d.serial[0] = d.serial[0]&0x7f | 1
	return d
}

// points are public keys of P-256.
var points = func() (all [][]byte) {
	for range 8 {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		all = append(all, key.PublicKey().Bytes())
	}
	return all
}()

func octets(r *mathrand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// hostile are texts for names of all types.
var hostile = []string{
	"", " ", "a b.example.com", "-a.example.com", "a-.example.com", "a..example.com", ".", "*.example.com", "a.*.b", "localhost", "com",
	"xn--", "xn--99999999999999.example", "xn---.example", "xn--bcher-kva.example.com", "xn--a.example", "xn--99zzzzz.example", "XN--BCHER-KVA.example", "xn--u-ccb.example.com",
	"under_score.example.com", strings.Repeat("a", 64) + ".example.com", strings.Repeat("abcdefgh.", 40) + "example.com", "\xff\xfe", "\x00", "a\x7fb", "é.example.com",
	"a@example.com", "<a@example.com", "a@example.com)", "a b@example.com", "https://example.com/x", "http://[::1", "relative/path", "//host/x", "urn:a:b", "spiffe://t/w", ":",
	"mailto:", "http://x y", strings.Repeat("m", 65), "shop.example.com",
}

var moments = []moment{
	{cbasn1.UTCTime, "261130120000Z"}, {cbasn1.UTCTime, "491231235959Z"}, {cbasn1.UTCTime, "500101000000Z"}, {cbasn1.UTCTime, "261330120000Z"},
	{cbasn1.UTCTime, "2611301200Z"}, {cbasn1.UTCTime, "261130120000+0100"}, {cbasn1.GeneralizedTime, "20261130120000Z"}, {cbasn1.GeneralizedTime, "20611130120000Z"},
	{cbasn1.UTCTime, "980101000000Z"}, {cbasn1.UTCTime, "020401000000Z"}, {cbasn1.UTCTime, "080430235959Z"}, {cbasn1.UTCTime, "080501000000Z"}, {cbasn1.UTCTime, "121231000000Z"},
	{cbasn1.UTCTime, "200801000000Z"}, {cbasn1.UTCTime, "200731235959Z"}, {cbasn1.UTCTime, "180501000000Z"},
}

// vary changes some of what varies, mostly for the worse, and keeps the shape as a rule.
func (d *draft) vary(r *mathrand.Rand) {
	bad := func() string { return hostile[r.IntN(len(hostile))] }
	seldom := func() bool { return r.IntN(6) == 0 }
	for i := range d.name {
		if r.IntN(2) == 0 {
			d.name[i].value = bad()
		}
	}
	for i, name := range d.names {
		switch {
		case name.tag == tagIP && seldom():
			d.names[i].value = string(octets(r, []int{4, 16, 5, 0}[r.IntN(4)]))
		case name.tag != tagIP && r.IntN(2) == 0:
			d.names[i].value = bad()
		}
	}
	for seldom() && len(d.names) > 0 {
		d.names = append(d.names, text{d.names[0].tag, bad()})
	}
	switch r.IntN(4) {
	case 0:
		d.serial = [][]byte{{0}, {0xff}, {0x80}, {0, 1}, {1}, octets(r, 21), octets(r, 19), append([]byte{0}, octets(r, 20)...), {}}[r.IntN(9)]
	case 1:
		d.key = append([]byte{4}, octets(r, 64)...) // not on the curve
	case 2:
		d.key = points[r.IntN(len(points))]
	}
	if seldom() {
		d.notBefore = moments[r.IntN(len(moments))]
	}
	if seldom() {
		d.notAfter = moments[r.IntN(len(moments))]
	}
	if r.IntN(2) == 0 {
		d.keyID = octets(r, len(d.keyID))
	}
	if seldom() {
		d.list = bad()
	}
	if d.ed25519 {
		d.key = octets(r, ed25519.PublicKeySize)
	}
}

// tbs encodes a draft.
func (d *draft) tbs(t testing.TB) []byte {
	t.Helper()
	seq := func(b *cryptobyte.Builder, parts func(*cryptobyte.Builder)) { b.AddASN1(cbasn1.SEQUENCE, parts) }
	value := func(b *cryptobyte.Builder, v text) {
		b.AddASN1(v.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v.value)) })
	}
	rdns := func(b *cryptobyte.Builder, names []text) {
		seq(b, func(b *cryptobyte.Builder) {
			for _, name := range names {
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					seq(b, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 4, 3})
						value(b, name)
					})
				})
			}
		})
	}
	algorithm := func(b *cryptobyte.Builder, ids ...asn1.ObjectIdentifier) {
		seq(b, func(b *cryptobyte.Builder) {
			for _, id := range ids {
				b.AddASN1ObjectIdentifier(id)
			}
		})
	}
	b := cryptobyte.NewBuilder(nil)
	seq(b, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		value(b, text{cbasn1.INTEGER, string(d.serial)})
		algorithm(b, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		rdns(b, []text{{cbasn1.UTF8String, "an issuer"}})
		seq(b, func(b *cryptobyte.Builder) { value(b, d.notBefore); value(b, d.notAfter) })
		subject := d.name
		if d.flaw == twoNames {
			subject = append(subject, text{cbasn1.UTF8String, "other"})
		}
		rdns(b, subject)
		seq(b, func(b *cryptobyte.Builder) {
			if d.ed25519 {
				algorithm(b, asn1.ObjectIdentifier{1, 3, 101, 112})
			} else {
				algorithm(b, asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
			}
			b.AddASN1BitString(d.key)
		})
		if d.flaw == uniqueID {
			value(b, text{cbasn1.Tag(2).ContextSpecific(), "\x00x"})
		}
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { seq(b, d.extensions) })
	})
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (d *draft) extensions(b *cryptobyte.Builder) {
	extension := func(critical []byte, value func(*cryptobyte.Builder), id ...int) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddBytes(critical)
			b.AddASN1(cbasn1.OCTET_STRING, value)
		})
	}
	raw := func(s string) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) }
	}
	critical, usage := []byte{1, 1, 0xff}, "\x03\x02\x07\x80"
	if d.flaw == usageUncritical {
		critical = nil
	}
	if d.flaw == certSign {
		usage = "\x03\x02\x02\x84"
	}
	if d.flaw != noUsage {
		extension(critical, raw(usage), 2, 5, 29, 15)
	}
	extension(nil, raw("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"), 2, 5, 29, 37)
	extension([]byte{1, 1, 0xff}, raw("\x30\x00"), 2, 5, 29, 19)
	if d.flaw == twice {
		extension(nil, raw("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"), 2, 5, 29, 37)
	}
	critical = nil
	if d.flaw == falseCritical {
		critical = []byte{1, 1, 0}
	}
	extension(critical, func(b *cryptobyte.Builder) { b.AddASN1OctetString(d.keyID) }, 2, 5, 29, 14)
	extension(nil, raw("\x30\x06\x80\x04abcd"), 2, 5, 29, 35)
	if len(d.name) == 0 {
		critical = []byte{1, 1, 0xff}
	}
	extension(critical, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, name := range d.names {
				b.AddASN1(name.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(name.value)) })
			}
		})
	}, 2, 5, 29, 17)
	if d.flaw == noList {
		return
	}
	extension(nil, func(b *cryptobyte.Builder) {
		zero := cbasn1.Tag(0).ContextSpecific().Constructed()
		point := func(b *cryptobyte.Builder) {
			b.AddASN1(zero, func(b *cryptobyte.Builder) {
				b.AddASN1(zero, func(b *cryptobyte.Builder) {
					b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(d.list)) })
				})
			})
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, point)
			if d.flaw == twoLists {
				b.AddASN1(cbasn1.SEQUENCE, point)
			}
		})
	}, 2, 5, 29, 31)
}

// random returns a draft of a random shape.
func random(r *mathrand.Rand) draft {
	d := plain(r)
	d.flaw = flaw(max(0, r.IntN(2*int(flaws))-int(flaws)))
	d.ed25519 = r.IntN(4) == 0
	if d.ed25519 {
		d.key = octets(r, ed25519.PublicKeySize)
	}
	switch r.IntN(4) {
	case 0:
		d.name = nil
	case 1:
		d.name[0].tag = cbasn1.UTF8String
	}
	for tag, value := range map[cbasn1.Tag]string{tagEmail: "a@example.com", tagURI: "https://example.com/", tagIP: "\x0a\x00\x00\x01"} {
		if r.IntN(4) == 0 {
			d.names = append(d.names, text{tag, value})
		}
	}
	if r.IntN(20) == 0 {
		d.names = nil
	}
	return d
}

// agree proves for a pair of leaves what the Linter takes for granted, when they
// have one shape: each rule that is said to read nothing that varies says the same
// of both, what fill makes of one is what is parsed of it, and the verdict is that of
// all rules. It reports whether they have one shape.
func agree(t testing.TB, one, other []byte) bool {
	t.Helper()
	set, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	l := NewLinter(func(err error) { t.Errorf("doubt: %v", err) })
	l.sampled = func() bool { return false }
	_, _ = l.lint(one)
	keyOne, a, okOne := cut(nil, one)
	keyOther, b, okOther := cut(nil, other)
	want, wantErr := set.lint(other)
	got, gotErr := l.lint(other)
	if (wantErr == nil) != (gotErr == nil) || wantErr == nil && !got.equal(want) {
		t.Fatalf("by shape %v, %v; by all rules %v, %v\n%x\n%x", got, gotErr, want, wantErr, one, other)
	}
	if !okOne || !okOther || !bytes.Equal(keyOne, keyOther) || set.era(a.notBefore) != set.era(b.notBefore) {
		return false
	}
	parsedOne, errOne := parse(one)
	parsedOther, errOther := parse(other)
	if errOne != nil || errOther != nil {
		return false
	}
	for _, rule := range set.rules {
		said, says := rule.Execute(parsedOne, set.configuration).Status, rule.Execute(parsedOther, set.configuration).Status
		if reads[rule.Name]&a.facts == 0 && said != says {
			t.Errorf("%s says %s of one leaf and %s of another one of its shape\n%x\n%x", rule.Name, said, says, one, other)
		}
	}
	known := l.shapes[string(appendEra(keyOne, set.era(a.notBefore)))]
	if known == nil {
		t.Fatal("the shape was not learnt")
	}
	filled, err := b.fill(known.like)
	if err != nil {
		t.Fatalf("%v, though it can be parsed\n%x", err, other)
	}
	parsedAgain, _ := parse(other) // the rules have left their own notes in the other
	if blank(parsedAgain); !reflect.DeepEqual(filled, parsedAgain) {
		t.Fatalf("filled:\n%+v\nparsed:\n%+v", filled, parsedAgain)
	}
	// And where a rule is broken, or the shape was learnt of a bad leaf, the verdict that was expected is the right one.
	if expected, err := known.judge(set, &b); err != nil || !expected.equal(want) {
		t.Fatalf("expected %v, %v; by all rules %v\n%x\n%x", expected, err, want, one, other)
	}
	return true
}

// Whatever varies between two leaves of one shape, the rules that look at the first
// one only would have said the same of the other.
func TestShapesAreFair(t *testing.T) {
	t.Parallel()
	pairs, shared, refused := 1500, 0, 0
	if testing.Short() {
		pairs = 500
	}
	for n := range pairs {
		r := mathrand.New(mathrand.NewPCG(uint64(n), 1))
		one := random(r)
		other := one
		other.name, other.names = append([]text(nil), one.name...), append([]text(nil), one.names...)
		other.vary(r)
		if r.IntN(2) == 0 {
			one, other = other, one
		}
		if agree(t, one.tbs(t), other.tbs(t)) {
			shared++
		}
		set, _ := rules()
		if v, err := set.lint(other.tbs(t)); err != nil || len(v.broken) > 0 {
			refused++
		}
	}
	if shared < pairs/3 || refused < pairs/5 {
		t.Errorf("of %d pairs only %d have one shape, and %d leaves are refused: this proves little", pairs, shared, refused)
	}
	t.Logf("of %d pairs %d have one shape, %d leaves are refused", pairs, shared, refused)
}

func FuzzShapes(f *testing.F) {
	f.Add(uint64(1), "shop.example.com", []byte{1, 2, 3})
	f.Add(uint64(2), "xn--bcher-kva.example.com", []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, seed uint64, name string, raw []byte) {
		r := mathrand.New(mathrand.NewPCG(seed, 2))
		one := random(r)
		other := one
		if len(one.names) > 0 {
			other.names = []text{{one.names[0].tag, name}}
		}
		other.name = []text{{cbasn1.UTF8String, name}}
		switch seed % 4 {
		case 0:
			other.serial = raw
		case 1:
			other.key = raw
		case 2:
			other.list = string(raw)
		}
		agree(t, one.tbs(t), other.tbs(t))
		agree(t, other.tbs(t), one.tbs(t))
		agree(t, one.tbs(t), raw)
	})
}
