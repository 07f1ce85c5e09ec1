package agent

import (
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// Files that somebody has changed are told at once, and until they are as they
// should be.
func TestDriftIsTold(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	install := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(install, 5))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	told := func(drift string) func() bool {
		return func() bool {
			for _, installed := range n.asked[len(n.asked)-1].Installed {
				if installed.Binding == install.Binding && installed.Version == install.Version {
					return strings.Contains(installed.Drift, drift) && (installed.Drift != "") == (drift != "")
				}
			}
			return false
		}
	}
	n.drift(certctl.Errorf(certctl.Conflict, "the key is another one"))
	n.await("word of the drift", told("the key is another one"))
	// A host that cannot be asked is no news: neither that of a change nor of its end.
	n.drift(certctl.Errorf(certctl.Unavailable, "the host does not answer"))
	n.running.inspect(t.Context(), false)
	if got := n.running.drift.of(install.Binding); got != "the key is another one" {
		t.Errorf("of a host that cannot be asked: %q", got)
	}
	n.drift(nil)
	n.await("word that it is over", func() bool {
		n.conn.ring()
		return told("")()
	})
}

// drift changes the files of the node's target.
func (n *node) drift(how error) {
	n.target.mu.Lock()
	defer n.target.mu.Unlock()
	n.target.drifted = how
}
