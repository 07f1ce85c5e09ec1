package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// keeper is a target that gives back what it was last asked to serve.
type keeper struct{ *memoryTarget }

func (k keeper) Read(string, certctl.Slot) ([]byte, certctl.Chain, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := k.batches[len(k.batches)-1]
	return last[0].Command.Leaf, last[0].Command.Chain, nil
}

// inventory waits for the newest inventory report.
func (n *node) inventory(number int64) certctl.InventoryReport {
	n.t.Helper()
	var report certctl.InventoryReport
	n.await("an inventory", func() bool {
		for _, s := range n.reports(certctl.ReportInventory) {
			if s.Number == number && s.Object == n.agent {
				if err := s.Decode(&report); err != nil {
					n.t.Error(err)
				}
				return true
			}
		}
		return false
	})
	return report
}

// A server that has forgotten what is installed is told, leaf and chain and all.
func TestTheAgentTellsWhatItHas(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.open = func(certctl.TargetCommand) (Target, error) { return keeper{n.target}, nil }
	n.start()
	c := n.installCommand(n.csr(certctl.ID{9}, 1), 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 2))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })

	ask := func(number int64, end time.Duration) certctl.Statement {
		return n.order(certctl.CommandInventory, n.agent, number, certctl.InventoryCommand{
			Bindings: []certctl.ID{c.Binding, {0xbb}}, NotAfter: time.Now().Add(end),
		})
	}
	n.put(n.conn, ask(2, -time.Minute), ask(3, time.Hour))
	report := n.inventory(3)
	if len(report.Items) != 2 {
		t.Fatalf("report %+v", report)
	}
	has, lacks := report.Items[0], report.Items[1]
	if has.Version != c.Version || has.Number != 2 || has.Outcome != certctl.OutcomeVerified || !bytes.Equal(has.Leaf, c.Leaf) || has.Problem != "" {
		t.Errorf("told of %+v", has)
	}
	if lacks.Problem == "" || lacks.Leaf != nil {
		t.Errorf("told of a binding that is not there: %+v", lacks)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.reports(certctl.ReportInventory) {
		if s.Number == 2 {
			t.Error("a command that has ended was answered")
		}
	}
}
