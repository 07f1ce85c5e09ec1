package handlers_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/certctl/certctl/handlers/kek"
	"golang.org/x/crypto/ocsp"
)

// issued is a leaf of the world's CA, as the responder is asked about it.
type issued struct {
	version   certctl.Version
	leaf, ca  *x509.Certificate
	request   []byte
	authority certctl.ID
}

func (w *world) issued() issued {
	w.t.Helper()
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	i := issued{version: w.versions(c)[0]}
	i.authority = i.version.Authority
	authority, err := w.AuthorityByID(w.ctx, i.authority)
	w.must(err)
	i.ca, err = x509.ParseCertificate(authority.Certificate)
	w.must(err)
	i.leaf, err = x509.ParseCertificate(i.version.Leaf)
	w.must(err)
	i.request, err = ocsp.CreateRequest(i.leaf, i.ca, nil)
	w.must(err)
	return i
}

func TestOCSPSaysWhatIsSoNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.issued()
	responder := handlers.NewOCSP(w.Store, w.pki)
	answer, err := responder.Answer(w.ctx, i.authority, i.request)
	if certctl.ErrorCode(err) != certctl.Unavailable || !bytes.Equal(answer.DER, ca.OCSPTryLater.Refusal()) {
		t.Fatalf("without a responder: %x, %v", answer.DER, err)
	}
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	without, err := lists.Incomplete(w.ctx)
	w.must(err)
	w.must(lists.Handle(w.ctx, certctl.Hint{IDs: without}))
	if left, err := lists.Incomplete(w.ctx); err != nil || len(without) != 2 || len(left) != 0 {
		t.Errorf("%d authorities were incomplete, %d still are, %v", len(without), len(left), err)
	}
	status := func() *ocsp.Response {
		t.Helper()
		answer, err := responder.Answer(w.ctx, i.authority, i.request)
		w.must(err)
		read, err := ocsp.ParseResponseForCert(answer.DER, i.leaf, i.ca)
		w.must(err)
		return read
	}
	if got := status(); got.Status != ocsp.Good {
		t.Errorf("status %d", got.Status)
	}
	_, err = w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: i.version.ID, Reason: certctl.ReasonSuperseded, Replace: certctl.ReplaceNo})
	w.must(err)
	if got := status(); got.Status != ocsp.Revoked || got.RevocationReason != ocsp.Superseded {
		t.Errorf("status %d for %d", got.Status, got.RevocationReason)
	}
	if i.leaf.OCSPServer[0] != ca.URL("http://pki.example.com", i.authority)+"/ocsp" {
		t.Errorf("the leaf asks %v", i.leaf.OCSPServer)
	}
}

func TestOCSPRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.issued()
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	w.must(lists.Handle(w.ctx, certctl.Hint{IDs: []certctl.ID{i.authority}}))
	root, err := w.AuthorityByID(w.ctx, i.authority)
	w.must(err)
	for name, test := range map[string]struct {
		authority certctl.ID
		request   []byte
		want      ca.OCSPStatus
	}{
		"no request":          {i.authority, []byte("hello"), ca.OCSPMalformed},
		"no such authority":   {w.issuer.ID, i.request, ca.OCSPUnauthorized},
		"the root's own path": {root.Parent, i.request, ca.OCSPUnauthorized},
	} {
		answer, err := handlers.NewOCSP(w.Store, w.pki).Answer(w.ctx, test.authority, test.request)
		if err != nil || !bytes.Equal(answer.DER, test.want.Refusal()) || !answer.NextUpdate.IsZero() {
			t.Errorf("%s: %x, %v", name, answer.DER, err)
		}
	}
	never := *i.leaf
	never.SerialNumber = ca.NewSerial()
	request, err := ocsp.CreateRequest(&never, i.ca, nil)
	w.must(err)
	answer, err := handlers.NewOCSP(w.Store, w.pki).Answer(w.ctx, i.authority, request)
	w.must(err)
	if read, err := ocsp.ParseResponse(answer.DER, i.ca); err != nil || read.Status != ocsp.Unknown {
		t.Errorf("a serial number that was never issued: %+v, %v", read, err)
	}
}

// A responder whose key nobody here can open is replaced, as after a move from a
// derived key-encryption key to one of its own.
func TestAResponderUnderAnotherKeyIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.issued()
	w.must(handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t)).Handle(w.ctx, certctl.Hint{IDs: []certctl.ID{i.authority}}))
	before, err := w.GetResponder(w.ctx, i.authority)
	w.must(err)
	key, err := kek.New(kek.PKI, bytes.Repeat([]byte{7}, 32))
	w.must(err)
	other := sealer{key}
	if answer, err := handlers.NewOCSP(w.Store, other).Answer(w.ctx, i.authority, i.request); err == nil || !bytes.Equal(answer.DER, ca.OCSPTryLater.Refusal()) {
		t.Errorf("with another key: %x, %v", answer.DER, err)
	}
	lists := handlers.NewLists(w.Store, w.authorities, other, testLog(t))
	without, err := lists.Incomplete(w.ctx)
	w.must(err)
	w.must(lists.Handle(w.ctx, certctl.Hint{IDs: without}))
	after, err := w.GetResponder(w.ctx, i.authority)
	w.must(err)
	if bytes.Equal(before.Certificate, after.Certificate) {
		t.Fatal("the responder is the same")
	}
	if _, err := handlers.NewOCSP(w.Store, other).Answer(w.ctx, i.authority, i.request); err != nil {
		t.Error(err)
	}
}
