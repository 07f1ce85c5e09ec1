package agent

import (
	"context"
	"testing"

	"github.com/certctl/certctl"
)

// distantTarget is a store whose vendor does not answer.
type distantTarget struct {
	*memoryTarget
	asked chan string
}

func (d *distantTarget) Recover(ctx context.Context) error {
	if err := d.memoryTarget.Recover(ctx); err != nil {
		return err
	}
	d.asked <- "recover"
	<-ctx.Done()
	return ctx.Err()
}

func (d *distantTarget) InspectWithin(ctx context.Context, _ string, _ certctl.Slot, _, _ certctl.Digest) error {
	d.asked <- "inspect"
	<-ctx.Done()
	return certctl.Wrap(certctl.Unavailable, ctx.Err(), "the vendor does not answer")
}

// A vendor that does not answer holds up neither the start of an agent, nor its work,
// nor its end.
func TestAVendorThatDoesNotAnswerHoldsUpNothing(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	store := &distantTarget{n.target, make(chan string, 8)}
	n.open = func(certctl.TargetCommand) (Target, error) { return store, nil }
	n.start()
	n.put(n.conn, n.targetCommand("files"), n.installOrder(n.installCommand(n.csr(certctl.ID{1}, 1), 1), 5))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for len(store.asked) > 0 {
		<-store.asked // of the first start
	}
	n.start()
	if got := <-store.asked; got != "recover" {
		t.Errorf("it was asked to %s first", got)
	}
	n.put(n.conn, n.installOrder(n.installCommand(n.csr(certctl.ID{2}, 2), 2), 6))
	n.await("another receipt", func() bool { return len(n.receipts()) == 2 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
}

// A target that lets the time for one binding pass is not asked about the next, and
// what was known of both stays.
func TestASilentTargetIsAskedOnce(t *testing.T) {
	t.Parallel()
	n := idle(t)
	store := &distantTarget{n.target, make(chan string, 8)}
	a, silent := n.running, map[certctl.ID]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		record := bindingRecord{Target: certctl.ID{7}, Place: "shop", Keys: []keyUse{{}}}
		if err := a.inspectOne(ctx, store, record, silent); certctl.ErrorCode(err) != certctl.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	if len(store.asked) != 1 {
		t.Errorf("it was asked %d times", len(store.asked))
	}
}
