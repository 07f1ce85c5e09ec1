package handlers_test

import (
	"testing"

	"github.com/certctl/certctl"
)

// After a key compromise the node is told to erase the key, by a command that it
// obeys, once the replacement is verified.
func TestACompromisedKeyIsErasedOnItsNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	n.target("one")
	c := w.submit("shop", "one")
	w.issues(n.answersCSR().Order)
	var install certctl.InstallCommand
	statement := n.command(certctl.CommandInstall, &install)
	n.reports(n.receipt(install, statement.Number, certctl.OutcomeVerified, ""))
	first := w.versions(c)[0]
	_, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: first.ID, Reason: certctl.ReasonKeyCompromise})
	w.must(err)
	w.issues(n.answersCSR().Order)
	statement = n.command(certctl.CommandInstall, &install)
	n.reports(n.receipt(install, statement.Number, certctl.OutcomeVerified, ""))
	var erase certctl.EraseCommand
	statement = n.command(certctl.CommandErase, &erase)
	if erase.SPKI != first.SPKI || erase.Erasure != statement.Object || !erase.NotAfter.After(w.now()) {
		t.Errorf("command %+v", erase)
	}
	thief := w.newNode("thief")
	if a := thief.reports(thief.says(certctl.ReportErased, erase.Erasure, statement.Number, certctl.Refusal{})); a.Recorded {
		t.Error("another node may say that the key is erased")
	}
	if a := n.reports(n.says(certctl.ReportErased, erase.Erasure, statement.Number, certctl.Refusal{})); !a.Recorded {
		t.Errorf("answer %+v", a)
	}
	for _, command := range n.mailbox(certctl.Installed{Binding: install.Binding, Version: install.Version, Number: statement.Number}).Commands {
		if command.Kind == certctl.CommandErase {
			t.Error("told again")
		}
	}
	w.consistent()
}
