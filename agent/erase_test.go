package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func (n *node) eraseOrder(erasure byte, number int64, spki certctl.Digest) certctl.Statement {
	id := certctl.ID{9, erasure}
	return n.order(certctl.CommandErase, id, number, certctl.EraseCommand{Erasure: id, SPKI: spki, NotAfter: time.Now().Add(time.Hour)})
}

// renewed is a node that has replaced the key of the first request.
func (n *node) renewed() (old, current *certctl.CSR) {
	n.t.Helper()
	old = n.csr(certctl.ID{1}, 1)
	current = n.next(old, 1, 10)
	n.next(current, 2, 11)
	return old, current
}

func (n *node) has(spki certctl.Digest) bool {
	_, err := n.running.store.Get(spki)
	return err == nil
}

// A compromised key is erased with the generation that holds it, and what is in
// service is not touched. The command may come as often as it likes.
func TestErasingACompromisedKey(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	old, current := n.renewed()
	if !n.has(old.SPKI) {
		t.Fatal("the previous generation's key is gone before")
	}
	n.put(n.conn, n.eraseOrder(1, 20, old.SPKI))
	n.await("the answer", func() bool { return len(n.reports(certctl.ReportErased)) == 1 })
	if n.has(old.SPKI) || !n.has(current.SPKI) || len(n.target.erased) != 1 || n.target.erased[0] != old.SPKI {
		t.Errorf("erased %v", n.target.erased)
	}
	n.putUntil(n.conn, "the answer again", func() bool { return len(n.reports(certctl.ReportErased)) > 1 }, n.eraseOrder(1, 20, old.SPKI))
	n.put(n.conn, n.eraseOrder(2, 21, current.SPKI))
	n.await("a refusal", func() bool { return len(n.refusals()) == 1 })
	if got := n.refusals()[0]; got.Code != certctl.CodeKeyInService || got.Remedy == "" || !n.has(current.SPKI) {
		t.Errorf("refusal %+v", got)
	}
	back := n.installCommand(old, 3)
	n.put(n.conn, n.installOrder(back, 30))
	n.await("a receipt", func() bool { return len(n.receipts()) == 3 })
	if got := n.receipts()[2]; got.Code != "key_missing" {
		t.Errorf("installed with a key that was erased: %+v", got)
	}
	for _, key := range n.running.journal.Keys("order/") {
		var record orderRecord
		if n.running.journal.Get(key, &record) && record.SPKI == old.SPKI {
			t.Error("an order would be answered with the erased key")
		}
	}
}

// What cannot be removed now is said, and the key is not reported as erased.
func TestAKeyThatCannotBeErased(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	old, _ := n.renewed()
	n.target.mu.Lock()
	n.target.erasing = certctl.Errorf(certctl.Internal, "the disk is read only")
	n.target.mu.Unlock()
	n.put(n.conn, n.eraseOrder(1, 20, old.SPKI))
	n.await("a refusal", func() bool { return len(n.refusals()) == 1 })
	if got := n.refusals()[0]; got.Code != "internal" || got.Message == "" || !n.has(old.SPKI) {
		t.Errorf("refusal %+v", got)
	}
}

// A process that is killed while it erases has the command again, and less of the
// key.
func TestKilledWhileErasing(t *testing.T) {
	t.Parallel()
	for _, point := range []FaultPoint{FaultKeyErased, FaultBeforeReport, FaultAfterReport} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			n := enrolled(t)
			n.start()
			old, current := n.renewed()
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			order := n.eraseOrder(1, 20, old.SPKI)
			n.killedAt(point, order)
			n.start()
			n.putUntil(n.conn, "the answer", func() bool { return len(n.reports(certctl.ReportErased)) > 0 }, order)
			if n.has(old.SPKI) || !n.has(current.SPKI) {
				t.Error("the wrong key is gone")
			}
		})
	}
}

// Seven days after its leaf has ended a previous generation goes with its key;
// the current one stays, however old it is.
func TestOldGenerationsAreErased(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	old, current := n.renewed()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	look := func(at time.Time) (erased []certctl.Digest) {
		n.t.Helper()
		n.run()
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		n.conns = make(chan *memoryConn, 8)
		options := n.options()
		options.Now = func() time.Time { return at }
		agent, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		n.running = agent
		agent.tidy()
		if err := agent.journal.Close(); err != nil {
			t.Error(err)
		}
		if err := agent.lock.Close(); err != nil {
			t.Error(err)
		}
		return slices.Clone(n.target.erased)
	}
	if erased := look(time.Now().Add(7 * certctl.Day)); len(erased) != 0 || !n.has(old.SPKI) {
		t.Errorf("erased within seven days: %v", erased)
	}
	if erased := look(time.Now().Add(8 * certctl.Day)); len(erased) != 1 || erased[0] != old.SPKI || n.has(old.SPKI) || !n.has(current.SPKI) {
		t.Errorf("erased %v", erased)
	}
	if erased := look(time.Now().Add(90 * certctl.Day)); len(erased) != 1 || !n.has(current.SPKI) {
		t.Errorf("erased %v", erased)
	}
}
