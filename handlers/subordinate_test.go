package handlers_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
)

// signSubordinate signs a request as a foreign CA would, with a change.
func signSubordinate(t *testing.T, request []byte, change func(*x509.Certificate)) []*x509.Certificate {
	t.Helper()
	root, err := ca.NewRoot(ca.Options{Name: "Example Corp"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil || csr.CheckSignature() != nil {
		t.Fatalf("the request is not signed by its key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: csr.Subject, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * certctl.Day),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, root.Certificate, csr.PublicKey, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{signed, root.Certificate}
}

// A local CA becomes a subordinate of another one: leaves are then signed by it,
// and its key never left.
func TestALocalCABecomesASubordinate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := handlers.NewSubordinates(w.authorities, w.Store)
	request, err := s.Request(w.ctx, w.issuer.ID, ca.Options{Organization: "Example"})
	w.must(err)
	again, err := s.Request(w.ctx, w.issuer.ID, ca.Options{Organization: "Example"})
	w.must(err)
	first, _ := x509.ParseCertificateRequest(request)
	second, _ := x509.ParseCertificateRequest(again)
	if !samePublic(first.PublicKey, second.PublicKey) {
		t.Error("asked again, another key was made")
	}
	same := func(*x509.Certificate) {}
	for name, answer := range map[string][]*x509.Certificate{
		"no root":      signSubordinate(t, request, same)[:1],
		"not a CA":     signSubordinate(t, request, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }),
		"no lists":     signSubordinate(t, request, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }),
		"over":         signSubordinate(t, request, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"another root": {signSubordinate(t, request, same)[0], signSubordinate(t, request, same)[1]},
		"another key":  signSubordinate(t, foreignRequest(t), same),
	} {
		if _, err := s.Install(w.ctx, w.issuer.ID, answer); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := signSubordinate(t, request, same)
	id, err := s.Install(w.ctx, w.issuer.ID, good)
	w.must(err)
	active, err := w.authorities.Active(w.ctx, w.issuer.ID, ca.Options{})
	w.must(err)
	if active.ID != id || !active.Certificate.Equal(good[0]) || len(active.Chain) != 1 {
		t.Errorf("active is %s", active.Certificate.Subject)
	}
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	w.verifies(w.versions(c)[0], "shop.example.com")
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	w.must(lists.Handle(w.ctx, certctl.Hint{IDs: []certctl.ID{id}}))
	list, err := w.GetCRL(w.ctx, id, certctl.CompleteCRL)
	w.must(err)
	parsed, err := x509.ParseRevocationList(list.DER)
	if err != nil || parsed.CheckSignatureFrom(good[0]) != nil {
		t.Errorf("the list is not signed by the new CA: %v", err)
	}
}

func foreignRequest(t *testing.T) []byte {
	t.Helper()
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The lists say what is revoked, from the first moment after.
func TestRevokedLeavesAreOnTheLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	v := w.versions(c)[0]
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	sign := func() *x509.RevocationList {
		w.must(lists.Handle(w.ctx, certctl.Hint{IDs: []certctl.ID{v.Authority}}))
		list, err := w.GetCRL(w.ctx, v.Authority, ca.Shard(v.Serial, 128))
		w.must(err)
		parsed, err := x509.ParseRevocationList(list.DER)
		w.must(err)
		return parsed
	}
	before := sign()
	_, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: v.ID, Reason: certctl.ReasonSuperseded, Replace: certctl.ReplaceNo})
	w.must(err)
	revoke := handlers.NewRevoke(w.Store, w.openCA, testLog(t))
	w.must(revoke.Handle(w.ctx, certctl.Hint{IDs: []certctl.ID{v.ID}}))
	after := sign()
	if len(before.RevokedCertificateEntries) != 0 || len(after.RevokedCertificateEntries) != 1 || after.Number.Cmp(before.Number) <= 0 {
		t.Errorf("before %d entries, after %d", len(before.RevokedCertificateEntries), len(after.RevokedCertificateEntries))
	}
	if got := certctl.SerialOf(after.RevokedCertificateEntries[0].SerialNumber); got != v.Serial || after.RevokedCertificateEntries[0].ReasonCode != 4 {
		t.Errorf("entry %s, reason %d", got, after.RevokedCertificateEntries[0].ReasonCode)
	}
	w.consistent()
}

func samePublic(a, b any) bool {
	key, ok := a.(*ecdsa.PublicKey)
	other, also := b.(*ecdsa.PublicKey)
	return ok && also && key.Equal(other)
}
