package ca_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

var now = time.Now().UTC().Truncate(time.Second)

// fixture is a root with an issuing authority.
func fixture(t testing.TB, o ca.Options) (ca.Made, *ca.Authority) {
	t.Helper()
	root, err := ca.NewRoot(o, now)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := ca.NewIssuing(o, root, "http://pki.example.com/root", now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Load(certctl.Authority{
		ID: certctl.NewID(now), Certificate: issuing.Certificate.Raw, Chain: certctl.Chain{issuing.Certificate.Raw},
		PKIURL: "http://pki.example.com", Shards: 128,
	}, issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	return root, authority
}

// badHardware signs well at first, and then something else.
type badHardware struct {
	crypto.Signer
	good int
}

func (b *badHardware) SignMessage(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if b.good--; b.good < 0 {
		message = append(slices.Clone(message), 0)
	}
	return crypto.SignMessage(b.Signer, random, message, opts)
}

// A key that begins to make bad signatures is found out: at once when it is
// loaded, and before long later.
func TestSignaturesAreSampled(t *testing.T) {
	t.Parallel()
	made, err := ca.NewRoot(ca.Options{}, now)
	if err != nil {
		t.Fatal(err)
	}
	prepared := func(good int) *ca.Prepared {
		t.Helper()
		authority, err := ca.Load(certctl.Authority{
			ID: certctl.NewID(now), Certificate: made.Certificate.Raw, PKIURL: "http://pki.example.com", Shards: 128,
		}, &badHardware{made.Key, good})
		if err != nil {
			t.Fatal(err)
		}
		p, err := authority.Prepare(request(t, certctl.ECDSAP256, certctl.Names{DNS: []string{"shop.example.com"}}))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if _, _, err := prepared(0).Sign(); certctl.ErrorCode(err) != certctl.Internal {
		t.Errorf("the first bad signature: %v", err)
	}
	later := prepared(1)
	for n := range 3000 { // all of them by chance: once in 10^13 runs
		_, _, err := later.Sign()
		switch {
		case n == 0 && err != nil:
			t.Fatal(err)
		case err != nil:
			for range 20 {
				if _, _, err := later.Sign(); err == nil {
					t.Error("a bad signature was taken after one had been found")
				}
			}
			return
		}
	}
	t.Error("bad signatures are never noticed")
}

// A chain that is not the certificate's own is refused before anything is signed.
func TestForeignChain(t *testing.T) {
	t.Parallel()
	root, _ := fixture(t, ca.Options{})
	other, _ := fixture(t, ca.Options{})
	mine := root.Certificate.Raw
	load := func(chain certctl.Chain) error {
		_, err := ca.Load(certctl.Authority{ID: certctl.NewID(now), Certificate: mine, Chain: chain}, root.Key)
		return err
	}
	if err := load(certctl.Chain{mine}); err != nil {
		t.Error(err)
	}
	for what, chain := range map[string]certctl.Chain{
		"another certificate": {other.Certificate.Raw}, "another issuer": {mine, other.Certificate.Raw}, "no certificate": {mine, []byte("x")},
	} {
		if err := load(chain); certctl.ErrorCode(err) != certctl.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func request(t testing.TB, algorithm certctl.KeyAlgorithm, names certctl.Names) ca.Request {
	t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	profile := certctl.DefaultProfile()
	profile.KeyAlgorithms = certctl.KeyAlgorithms
	return ca.Request{Names: names, SPKI: spki, Profile: profile, Serial: certctl.SerialOf(ca.NewSerial()), At: now}
}

func TestLeafIsWhatWasPreparedAndVerifies(t *testing.T) {
	t.Parallel()
	root, authority := fixture(t, ca.Options{})
	for _, algorithm := range certctl.KeyAlgorithms {
		names, err := certctl.Names{DNS: []string{"shop.example.com", "*.shop.example.com", "under_score.example.com"}}.Normalize()
		if err != nil {
			t.Fatal(err)
		}
		r := request(t, algorithm, names)
		first, err := authority.Prepare(r)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		again, err := authority.Prepare(r)
		if err != nil || first.Digest != again.Digest {
			t.Fatalf("%s: prepared twice, the bytes differ (%v)", algorithm, err)
		}
		der, _, err := again.Sign()
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if certctl.DigestOf(leaf.RawTBSCertificate) != first.Digest {
			t.Errorf("%s: what was signed is not what was prepared", algorithm)
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.Certificate)
		between.AddCert(authority.Certificate)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "a.shop.example.com", Roots: roots, Intermediates: between}); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, authority := fixture(t, ca.Options{IssuingDays: 30})
	names := certctl.Names{DNS: []string{"a.example.com"}}
	for name, change := range map[string]func(*ca.Request){
		"no name":            func(r *ca.Request) { r.Names = certctl.Names{} },
		"a type not allowed": func(r *ca.Request) { r.Names.Email = []string{"a@example.com"} },
		"a key not allowed":  func(r *ca.Request) { r.Profile.KeyAlgorithms = []certctl.KeyAlgorithm{certctl.RSA4096} },
		"no serial":          func(r *ca.Request) { r.Serial = "" },
		"no key":             func(r *ca.Request) { r.SPKI = nil },
		"a cut-off key":      func(r *ca.Request) { r.SPKI = r.SPKI[:len(r.SPKI)-1] },
		"far beyond the CA":  func(r *ca.Request) { r.Profile.Validity = certctl.Duration(365 * certctl.Day) },
	} {
		r := request(t, certctl.ECDSAP256, names)
		change(&r)
		if _, err := authority.Prepare(r); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	r := request(t, certctl.ECDSAP256, names)
	r.Profile.Validity = certctl.Duration(40 * certctl.Day)
	p, err := authority.Prepare(r)
	if err != nil || !p.Clamped {
		t.Errorf("a leaf that would outlive its CA: %+v, %v", p, err)
	}
}

// Whatever a name is, it is refused or gives a certificate that parses and
// names exactly it.
func FuzzLeafNames(f *testing.F) {
	for _, name := range []string{"example.com", "a b.example.com", "a.*.b", "x", "_a.b", "-.b", strings.Repeat("a", 64) + ".b"} {
		f.Add(name)
	}
	_, authority := fixture(f, ca.Options{})
	r := request(f, certctl.ECDSAP256, certctl.Names{})
	f.Fuzz(func(t *testing.T, name string) {
		names, err := certctl.Names{DNS: []string{name}}.Normalize()
		if err != nil {
			return
		}
		r.Names = names
		p, err := authority.Prepare(r)
		if err != nil {
			return
		}
		der, _, err := p.Sign()
		if err != nil {
			return
		}
		leaf, err := certctl.ParseLeaf(der)
		if err != nil || !leaf.Names.Equal(names) {
			t.Errorf("%q gave %v, %v", name, leaf.Names, err)
		}
	})
}

// OpenSSL accepts a leaf with its own shard's list, refuses it with another
// shard's, and sees a revocation.
func TestOpenSSLReadsTheLists(t *testing.T) {
	t.Parallel()
	root, authority := fixture(t, ca.Options{})
	r := request(t, certctl.ECDSAP256, certctl.Names{DNS: []string{"a.example.com"}})
	p, err := authority.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := p.Sign()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leaf, anchor := file("leaf.pem", "CERTIFICATE", der), file("root.pem", "CERTIFICATE", root.Certificate.Raw)
	issuing := file("issuing.pem", "CERTIFICATE", authority.Certificate.Raw)
	list := func(name string, shard int, entries ...certctl.RevokedEntry) string {
		crl, err := authority.SignCRL(shard, now.UnixMicro(), entries, now)
		if err != nil {
			t.Fatal(err)
		}
		return file(name, "X509 CRL", crl.DER)
	}
	verify := func(crl string) (string, error) {
		out, err := exec.Command("openssl", "verify", "-crl_check", "-CAfile", anchor, "-untrusted", issuing, "-CRLfile", crl, leaf).CombinedOutput()
		return string(out), err
	}
	shard := ca.Shard(r.Serial, 128)
	if out, err := verify(list("own.pem", shard)); err != nil {
		t.Errorf("with its own list: %s", out)
	}
	if out, err := verify(list("other.pem", (shard+1)%128)); err == nil {
		t.Errorf("with another shard's list: %s", out)
	}
	if out, err := verify(list("complete.pem", certctl.CompleteCRL)); err != nil {
		t.Errorf("with the complete list: %s", out)
	}
	revoked := certctl.RevokedEntry{Serial: r.Serial, RevokedAt: now, Reason: certctl.ReasonKeyCompromise}
	if out, err := verify(list("revoked.pem", shard, revoked)); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("revoked: %s", out)
	}
}

func TestKeyOfAnotherAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	root, authority := fixture(t, ca.Options{})
	if _, err := ca.Load(certctl.Authority{Certificate: authority.Certificate.Raw}, root.Key); err == nil {
		t.Error("an authority takes a key that is not its own")
	}
}
