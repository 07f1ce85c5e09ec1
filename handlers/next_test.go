package handlers_test

import (
	"bytes"
	"testing"

	"github.com/certctl/certctl"
)

// handsOver is a receipt of what is in place, with a request for the next key.
func (n *node) handsOver(c certctl.InstallCommand, number int64, csr []byte) certctl.ReportAnswer {
	n.w.t.Helper()
	return n.reports(n.says(certctl.ReportReceipt, c.Deployment, number, certctl.Receipt{
		Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Fingerprint: c.Fingerprint,
		Outcome: certctl.OutcomeVerified, NextCSR: csr,
	}))
}

// The command asks for the key, the receipt brings the request, and the renewal
// is issued and installed without another word of the node.
func TestARenewalWithoutARoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	var install certctl.InstallCommand
	statement := n.command(certctl.CommandInstall, &install)
	if install.Next == nil || install.Next.Algorithm != certctl.ECDSAP256 || !install.Next.Names.Equal(c.Names) {
		t.Fatalf("asked for %+v", install.Next)
	}
	der, key := n.csr(install.Next.Names)
	if a := n.handsOver(install, statement.Number, der); !a.Recorded {
		t.Fatalf("answer %+v", a)
	}
	orders, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	w.must(err)
	if orders[0].State != certctl.OrderReady || !bytes.Equal(orders[0].CSR, der) {
		t.Fatalf("order %+v", orders[0])
	}
	w.issues(orders[0].ID)
	spki, err := certctl.SPKIHash(key.Public())
	w.must(err)
	v := w.versions(c)[0]
	if v.SPKI != spki {
		t.Errorf("version %+v", v)
	}
	w.verifies(v, "shop.example.com")
	n.command(certctl.CommandInstall, &install)
	if install.Version != v.ID || install.Next == nil {
		t.Errorf("command %+v", install)
	}
	w.consistent()
}

// A receipt whose request cannot be read, or is not signed by its key, counts as
// one without.
func TestAReceiptWithABrokenRequestCounts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"garbage": func([]byte) []byte { return []byte("not a request") },
		"forged":  func(der []byte) []byte { der[len(der)-1] ^= 1; return der },
		"none":    func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := w.newNode("web1")
			n.target("one")
			c := w.submit("shop", "one")
			w.issues(n.answersCSR().Order)
			var install certctl.InstallCommand
			statement := n.command(certctl.CommandInstall, &install)
			der, _ := n.csr(install.Names)
			if a := n.handsOver(install, statement.Number, change(der)); !a.Recorded {
				t.Fatalf("answer %+v", a)
			}
			if d := w.deployments(c)[0]; d.State != certctl.DeploymentVerified {
				t.Errorf("deployment %+v", d)
			}
			orders, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
			w.must(err)
			if orders[0].State != certctl.OrderAwaitingCSR {
				t.Errorf("order %+v", orders[0])
			}
			w.consistent()
		})
	}
}
