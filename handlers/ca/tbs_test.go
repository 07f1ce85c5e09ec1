package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// captor takes the bytes that x509.CreateCertificate would sign, and how.
type captor struct {
	crypto.Signer
	tbs  []byte
	opts crypto.SignerOpts
}

var errCaptured = errors.New("captured")

func (c *captor) SignMessage(_ io.Reader, tbs []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.tbs, c.opts = tbs, opts
	return nil, errCaptured
}

// authority is an issuing CA of a key algorithm.
func authority(t testing.TB, algorithm certctl.KeyAlgorithm) *Authority {
	t.Helper()
	root, err := NewRoot(Options{KeyAlgorithm: algorithm}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return load(t, root)
}

func load(t testing.TB, root Made) *Authority {
	t.Helper()
	a, err := Load(certctl.Authority{
		ID: certctl.NewID(time.Now()), Certificate: root.Certificate.Raw, PKIURL: "http://pki.example.com", Shards: 128,
	}, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// key is a new public key.
func key(t testing.TB, algorithm certctl.KeyAlgorithm) []byte {
	t.Helper()
	private, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

// same proves that a request gives the bytes that x509.CreateCertificate would sign,
// and that both sign alike or refuse alike.
func same(t testing.TB, a *Authority, r Request, end time.Time) {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(r.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	template, err := a.template(r, public)
	if err != nil {
		return
	}
	template.NotAfter = end
	capture := &captor{Signer: a.key}
	_, err = x509.CreateCertificate(rand.Reader, template, a.Certificate, public, capture)
	got, gotErr := a.tbs(template, public)
	if !errors.Is(err, errCaptured) {
		if gotErr == nil {
			t.Errorf("encoded, though x509.CreateCertificate says %v\n%x", err, got)
		}
		return
	}
	if gotErr != nil || !bytes.Equal(got, capture.tbs) {
		t.Errorf("%v\n%x\nx509.CreateCertificate:\n%x", gotErr, got, capture.tbs)
	}
	if capture.opts != a.signing.opts {
		t.Errorf("signed with %v, x509.CreateCertificate signs with %v", a.signing.opts, capture.opts)
	}
}

// What is signed is what x509.CreateCertificate would sign, for all kinds of keys of CAs and
// leaves, all types of names, and on both sides of 2050.
func TestTBSIsThatOfTheLibrary(t *testing.T) {
	t.Parallel()
	// Longer RSA keys are encoded alike, and take long to make.
	algorithms := []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.ECDSAP384, certctl.RSA2048, certctl.Ed25519}
	requests := map[certctl.KeyAlgorithm][]byte{}
	for _, algorithm := range algorithms {
		requests[algorithm] = key(t, algorithm)
	}
	names := []certctl.Names{
		{DNS: []string{"shop.example.com"}}, {DNS: []string{"*.example.com", "example.com"}}, {DNS: []string{strings.Repeat("a", 60) + ".example.com"}},
		{IP: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.2")}},
		{Email: []string{"a@example.com"}}, {URI: []string{"spiffe://trust/a", "https://example.com/%C3%A9?x=y#z"}},
		{DNS: []string{"a.example.com"}, IP: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Email: []string{"a@example.com"}, URI: []string{"urn:a:b"}}, {},
	}
	usages := [][]certctl.ExtendedKeyUsage{nil, {certctl.ServerAuth}, {certctl.ClientAuth, certctl.ServerAuth, certctl.CodeSigning, certctl.EmailProtection}}
	at := time.Now()
	private, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader) // which only a key that was brought along can be
	if err != nil {
		t.Fatal(err)
	}
	template, _, err := Options{}.template("Root", certctl.Day, at)
	if err != nil {
		t.Fatal(err)
	}
	brought, err := sign(template, template, private, private)
	if err != nil {
		t.Fatal(err)
	}
	authorities := []*Authority{load(t, brought)}
	for _, algorithm := range algorithms {
		authorities = append(authorities, authority(t, algorithm))
	}
	for _, a := range authorities {
		for n, names := range names {
			for _, algorithm := range algorithms {
				for i, ekus := range usages {
					r := Request{
						Names: names, SPKI: requests[algorithm], Serial: certctl.SerialOf(NewSerial()), At: at,
						Profile: certctl.Profile{EKUs: ekus, NoRevocation: (n+i)%2 == 0},
					}
					for _, years := range []int{1, 30} {
						same(t, a, r, at.AddDate(years, 0, 0))
					}
				}
			}
		}
	}
}

func FuzzTBS(f *testing.F) {
	f.Add("shop.example.com", "a@example.com", "https://example.com/", []byte{10, 0, 0, 1}, []byte{1}, int64(0), uint8(1))
	f.Add("é.example.com", "", "urn:x:y", []byte{}, []byte{0x80, 0}, int64(3_000_000_000), uint8(6))
	f.Add("*.a&b", "\xff@x", "http://é/", make([]byte, 16), []byte{0}, int64(-3_000_000_000), uint8(255))
	authorities := []*Authority{authority(f, certctl.ECDSAP256), authority(f, certctl.RSA2048), authority(f, certctl.Ed25519)}
	spki := key(f, certctl.ECDSAP256)
	f.Fuzz(func(t *testing.T, name, email, uri string, ip, serial []byte, seconds int64, which uint8) {
		r := Request{SPKI: spki, Serial: certctl.Serial(hex.EncodeToString(serial)), At: time.Now().Add(time.Duration(seconds) * time.Second)}
		for n, add := range []func(){
			func() { r.Names.DNS = []string{name, "other.example.com"} }, func() { r.Names.Email = []string{email} },
			func() { r.Names.URI = []string{uri} },
			func() {
				if addr, ok := netip.AddrFromSlice(ip); ok {
					r.Names.IP = []netip.Addr{addr}
				}
			},
			func() { r.Profile.NoRevocation = true },
			func() { r.Profile.EKUs = []certctl.ExtendedKeyUsage{certctl.ServerAuth, certctl.ClientAuth} },
		} {
			if which>>n&1 != 0 {
				add()
			}
		}
		same(t, authorities[int(which)%len(authorities)], r, r.At.Add(time.Duration(len(name))*certctl.Day))
	})
}
