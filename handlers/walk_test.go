package handlers_test

import (
	"crypto/x509"
	"testing"

	"github.com/certctl/certctl"
)

// receipt says how an install command ended.
func (n *node) receipt(c certctl.InstallCommand, number int64, outcome certctl.ReceiptOutcome, message string) certctl.Statement {
	return n.says(certctl.ReportReceipt, c.Deployment, number, certctl.Receipt{
		Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Fingerprint: c.Fingerprint,
		Outcome: outcome, Code: "test", Message: message,
	})
}

// A certificate from its submission to the receipt of the node that serves it.
func TestFromSubmissionToReceipt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")

	key := n.answersCSR()
	w.issues(key.Order)
	versions := w.versions(c)
	if len(versions) != 1 {
		t.Fatalf("versions %+v", versions)
	}
	w.verifies(versions[0], "shop.example.com")

	var install certctl.InstallCommand
	statement := n.command(certctl.CommandInstall, &install)
	if install.Version != versions[0].ID || install.Fingerprint != versions[0].Fingerprint || len(install.SealedKey) != 0 {
		t.Errorf("command %+v", install)
	}
	answer := n.reports(n.receipt(install, statement.Number, certctl.OutcomeVerified, ""))
	if !answer.Recorded {
		t.Fatalf("answer %+v", answer)
	}
	if d := w.deployments(c)[0]; d.State != certctl.DeploymentVerified || d.VerifiedAt.IsZero() || len(d.Receipt) == 0 {
		t.Errorf("deployment %+v", d)
	}
	got, err := w.GetCertificate(w.ctx, w.admin, "shop")
	if err != nil || got.Status != certctl.StatusActive {
		t.Errorf("certificate %+v, %v", got, err)
	}
	installed := certctl.Installed{Binding: install.Binding, Version: install.Version, Number: statement.Number}
	if box := n.mailbox(installed); len(box.Commands) != 0 {
		t.Errorf("commands afterwards %+v", box.Commands)
	}
	w.consistent()
}

// verifies proves that relying parties accept a version.
func (w *world) verifies(v certctl.Version, name string) {
	w.t.Helper()
	leaf, err := x509.ParseCertificate(v.Leaf)
	w.must(err)
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	authorities, err := w.Authorities(w.ctx, w.issuer.ID)
	w.must(err)
	for _, a := range authorities {
		if a.Parent.IsZero() {
			root, err := x509.ParseCertificate(a.Certificate)
			w.must(err)
			roots.AddCert(root)
		}
	}
	for _, der := range v.Chain {
		c, err := x509.ParseCertificate(der)
		w.must(err)
		intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates}); err != nil {
		w.t.Error(err)
	}
}

// A node that cannot install says why; the deployment comes again, and heals.
func TestARolledBackDeploymentComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	var install certctl.InstallCommand
	first := n.command(certctl.CommandInstall, &install)
	if a := n.reports(n.receipt(install, first.Number, certctl.OutcomeRolledBack, "unknown directive")); !a.Recorded {
		t.Fatalf("answer %+v", a)
	}
	d := w.deployments(c)[0]
	if d.State != certctl.DeploymentRolledBack || d.Message != "unknown directive" || d.DueAt.IsZero() || d.Tries != 1 {
		t.Fatalf("deployment %+v", d)
	}
	if box := n.mailbox(); len(box.Commands) != 0 {
		t.Errorf("sent again at once: %+v", box.Commands)
	}
	if _, err := w.RetryDeployment(w.ctx, w.admin, d.ID); err != nil {
		t.Fatal(err)
	}
	second := n.command(certctl.CommandInstall, &install)
	if second.Number <= first.Number {
		t.Errorf("number %d after %d", second.Number, first.Number)
	}
	n.reports(n.receipt(install, second.Number, certctl.OutcomeVerified, ""))
	if got, _ := w.GetCertificate(w.ctx, w.admin, "shop"); got.Status != certctl.StatusActive {
		t.Errorf("certificate %+v", got)
	}
	w.consistent()
}

// Hints may come twice, to two workers at once, or for nothing.
func TestHintsAreHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	order := w.orders(c)[0].ID
	w.issues(order) // no request yet
	w.issues(certctl.NewID(c.CreatedAt))
	if v := w.versions(c); len(v) != 0 {
		t.Fatalf("issued without a request: %+v", v)
	}
	n.answersCSR()
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			done <- w.issue.Handle(w.ctx, certctl.Hint{Verb: certctl.HintIssue, IDs: []certctl.ID{order, order}})
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if v := w.versions(c); len(v) != 1 {
		t.Errorf("%d versions", len(v))
	}
	w.consistent()
}

// The bus is read by none but its owner, and believed by nobody.
func TestAManAtTheBrokerGetsNothingIssued(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, thief := w.newNode("web1"), w.newNode("thief")
	n.target("one")
	c := w.submit("shop", "one")
	var key certctl.KeyCommand
	n.command(certctl.CommandMakeKey, &key)
	his, _ := n.csr(key.Names)
	own, _ := n.csr(key.Names)
	good := n.says(certctl.ReportCSR, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: own})
	swapped := good
	swapped.Body = n.says(certctl.ReportCSR, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: his}).Body

	foreign := thief.says(certctl.ReportCSR, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: his})
	posing := foreign
	posing.Agent = n.id
	elsewhere := good
	elsewhere.Installation = certctl.NewID(c.CreatedAt)
	stranger := w.stranger("nobody")
	stranger.id = n.id
	other, _ := n.csr(certctl.Names{DNS: []string{"admin.example.com"}})
	for name, statement := range map[string]certctl.Statement{
		"a swapped CSR":                      swapped,
		"another agent's CSR for this order": foreign,
		"another agent posing as this one":   posing,
		"a statement for another place":      elsewhere,
		"keys that nobody enrolled":          stranger.says(certctl.ReportCSR, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: his}),
		"a CSR for other names":              n.says(certctl.ReportCSR, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: other}),
		"a receipt as a CSR":                 n.says(certctl.ReportReceipt, key.Order, 0, certctl.CSRReport{Order: key.Order, CSR: his}),
		"a question as a report":             n.asks(),
		"an unknown kind":                    n.says("issue", key.Order, 0, map[string]string{}),
	} {
		if answer := w.reports.Answer(w.ctx, []certctl.Statement{statement})[0]; answer.Recorded || !answer.Final {
			t.Errorf("%s: %+v", name, answer)
		}
	}
	if o := w.orders(c)[0]; o.State != certctl.OrderAwaitingCSR || len(o.CSR) != 0 {
		t.Fatalf("order %+v", o)
	}
	if reply := w.mailboxes.Answer(w.ctx, []certctl.Statement{posing})[0]; certctl.ErrorCode(reply.Err) == "" {
		t.Errorf("a forged question was answered: %+v", reply)
	}
	if a := n.reports(good); !a.Recorded {
		t.Fatalf("the agent's own report was refused: %+v", a)
	}
	w.issues(key.Order)
	v := w.versions(c)
	request, err := certctl.ParseCSR(own)
	if err != nil || len(v) != 1 || v[0].SPKI != request.SPKI {
		t.Errorf("versions %+v, %v", v, err)
	}
	w.consistent()
}

// Receipts that are replayed, altered or somebody else's change nothing.
func TestForgedReceiptsVerifyNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, thief := w.newNode("web1"), w.newNode("thief")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	var install certctl.InstallCommand
	first := n.command(certctl.CommandInstall, &install)
	altered := n.receipt(install, first.Number, certctl.OutcomeFailed, "")
	altered.Body = n.receipt(install, first.Number, certctl.OutcomeVerified, "").Body
	old := n.receipt(install, first.Number-1, certctl.OutcomeVerified, "")
	for name, statement := range map[string]certctl.Statement{
		"an altered receipt":         altered,
		"a receipt for an older one": old,
		"another agent's receipt":    thief.receipt(install, first.Number, certctl.OutcomeVerified, ""),
	} {
		answer := w.reports.Answer(w.ctx, []certctl.Statement{statement})[0]
		if d := w.deployments(c)[0]; d.State != certctl.DeploymentInstalling {
			t.Errorf("%s: %+v, deployment %+v", name, answer, d)
		}
	}
	verified := n.receipt(install, first.Number, certctl.OutcomeVerified, "")
	failed := n.receipt(install, first.Number, certctl.OutcomeFailed, "too late")
	n.reports(verified)
	n.reports(failed) // the same command cannot end twice
	if d := w.deployments(c)[0]; d.State != certctl.DeploymentVerified {
		t.Errorf("deployment %+v", d)
	}
	w.consistent()
}

// Two machines with one agent's disk: nothing is sent to either, and it is told.
func TestTwoMachinesWithOneDiskAreInConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	w.submit("shop", "one")
	if box := n.mailbox(); len(box.Commands) == 0 {
		t.Fatal("no commands")
	}
	clone := *n
	clone.session, clone.machine = certctl.NewID(w.now()), "another machine"
	if box := clone.mailbox(); box.Stop == "" || len(box.Commands) != 0 {
		t.Errorf("the clone got %+v", box)
	}
	if box := n.mailbox(); box.Stop == "" || len(box.Commands) != 0 {
		t.Errorf("the original got %+v", box)
	}
	agent, err := w.GetAgent(w.ctx, w.admin, "web1")
	if err != nil || agent.State != certctl.AgentConflict {
		t.Errorf("agent %+v, %v", agent, err)
	}
	events, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Name: certctl.EventAgentConflict, Limit: 10})
	if err != nil || len(events) != 1 {
		t.Errorf("events %+v, %v", events, err)
	}
	if _, err := w.ResolveAgentConflict(w.ctx, w.admin, "web1", n.machine); err != nil {
		t.Fatal(err)
	}
	n.session = certctl.NewID(w.now())
	if box := n.mailbox(); box.Stop != "" || len(box.Commands) == 0 {
		t.Errorf("after the conflict: %+v", box)
	}
}
