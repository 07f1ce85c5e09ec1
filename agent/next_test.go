package agent

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
)

// asking is an install command that asks for the next key, too.
func (n *node) asking(csr *certctl.CSR, deployment byte) certctl.InstallCommand {
	c := n.installCommand(csr, deployment)
	c.Next = &certctl.NextKey{Holder: certctl.ID{2}, Names: csr.Names, Algorithm: certctl.ECDSAP256}
	return c
}

// handedOver returns the request in a receipt.
func (n *node) handedOver(receipt certctl.Receipt) *certctl.CSR {
	n.t.Helper()
	csr, err := certctl.ParseCSR(receipt.NextCSR)
	if err != nil {
		n.t.Fatalf("receipt %+v: %v", receipt, err)
	}
	return csr
}

// next installs a leaf for a request and returns the one that its receipt hands
// over.
func (n *node) next(csr *certctl.CSR, deployment byte, number int64) *certctl.CSR {
	n.t.Helper()
	c := n.asking(csr, deployment)
	var receipt certctl.Receipt
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, number))
	n.await("a receipt", func() bool {
		for _, r := range n.receipts() {
			if r.Deployment == c.Deployment {
				receipt = r
			}
		}
		return receipt.Deployment == c.Deployment
	})
	return n.handedOver(receipt)
}

func (n *node) keyFiles() int {
	n.t.Helper()
	files, err := os.ReadDir(filepath.Join(n.dir, "keys"))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(files)
}

// Each receipt hands over the request for the key that follows, and each next
// leaf is installed with the key that was handed over before.
func TestReceiptsHandOverTheNextKey(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	seen := map[certctl.Digest]bool{csr.SPKI: true}
	for i := range 4 {
		next := n.next(csr, byte(i+1), int64(10+i))
		if seen[next.SPKI] || next.Algorithm != certctl.ECDSAP256 || !next.Names.Equal(csr.Names) {
			t.Errorf("handed over %+v", next)
		}
		seen[next.SPKI] = true
		csr = next
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for _, receipt := range n.receipts() {
		if receipt.Outcome != certctl.OutcomeVerified {
			t.Errorf("receipt %+v", receipt)
		}
	}
	if got := n.keyFiles(); got != 3 { // of two generations and the next leaf
		t.Errorf("%d keys", got)
	}
	n.start()
	if got := n.next(csr, 9, 90); got.SPKI == csr.SPKI {
		t.Error("the same key again")
	}
}

// Two bindings of a holder, on one target or on two that are served at once, get
// one next key; an older server asks for none and gets none.
func TestOneNextKeyPerHolder(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	other := certctl.ID{0xbb}
	target := n.order(certctl.CommandTarget, other, 1, certctl.TargetCommand{Target: other, Kind: "files"})
	first, second, third, silent := n.asking(csr, 1), n.asking(csr, 2), n.asking(csr, 3), n.installCommand(csr, 4)
	second.Binding, third.Binding, silent.Binding, third.Target = certctl.ID{7}, certctl.ID{8}, certctl.ID{9}, other
	n.put(n.conn, n.targetCommand("files"), target, n.installOrder(first, 10), n.installOrder(second, 11), n.installOrder(third, 12), n.installOrder(silent, 13))
	n.await("all receipts", func() bool { return len(n.receipts()) == 4 })
	var handed []byte
	for _, receipt := range n.receipts() {
		switch {
		case receipt.Deployment == silent.Deployment:
			if receipt.NextCSR != nil {
				t.Error("a key that nobody asked for")
			}
		case handed == nil:
			handed = receipt.NextCSR
		case !bytes.Equal(handed, receipt.NextCSR):
			t.Error("another key of the same holder")
		}
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.start() // erases what lost the race
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if got := n.keyFiles(); got != 2 {
		t.Errorf("%d keys", got)
	}
}

// A failed installation hands nothing over, and what it had made is erased.
func TestAFailedInstallationHandsNothingOver(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.target.outcome = certctl.OutcomeRolledBack
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(n.asking(csr, 1), 10))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if n.receipts()[0].NextCSR != nil || n.keyFiles() != 1 {
		t.Errorf("receipt %+v, %d keys", n.receipts()[0], n.keyFiles())
	}
}

// The next key goes with the last binding of its certificate, and with names
// that are asked for no more.
func TestNextKeysThatNothingNeedsAreErased(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	n.next(csr, 1, 10)
	c := n.asking(csr, 2)
	c.Next.Names = certctl.Names{DNS: []string{"other.example.com"}}
	n.put(n.conn, n.installOrder(c, 11))
	n.await("a second receipt", func() bool { return len(n.receipts()) == 2 })
	if got := n.handedOver(n.receipts()[1]); !got.Names.Equal(c.Next.Names) {
		t.Errorf("handed over %+v", got)
	}
	n.put(n.conn, n.order(certctl.CommandForget, c.Binding, 12, certctl.ForgetCommand{Binding: c.Binding, Target: testTarget}))
	n.await("the answer", func() bool { return len(n.reports(certctl.ReportForgotten)) == 1 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if n.keyFiles() != 0 || len(n.running.journal.Keys("next/")) != 0 {
		t.Errorf("%d keys, records %v", n.keyFiles(), n.running.journal.Keys("next/"))
	}
}

// A process that is killed at any moment of a hand-over leaves either none, or a
// key that can be used: what the server has been told is always on the disk.
func TestKilledWhileHandingOver(t *testing.T) {
	t.Parallel()
	for _, point := range []FaultPoint{FaultNextKeyStored, FaultBeforeReceipt, FaultAfterReceipt, FaultBeforeReport, FaultAfterReport} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			n := enrolled(t)
			n.start()
			csr := n.csr(certctl.ID{1}, 1)
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			c := n.asking(csr, 1)
			n.killedAt(point, n.targetCommand("files"), n.installOrder(c, 10))
			told := n.receipts() // before the process was killed
			n.start()
			n.putUntil(n.conn, "a receipt", func() bool { return len(n.receipts()) > 0 }, n.targetCommand("files"), n.installOrder(c, 10))
			next := n.handedOver(n.receipts()[0])
			if len(told) > 0 && !bytes.Equal(told[0].NextCSR, n.receipts()[0].NextCSR) {
				t.Error("another key than was told before")
			}
			after := n.next(next, 2, 11)
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			n.start() // tidies what the killed process had made
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			if n.keyFiles() != 3 || after.SPKI == next.SPKI {
				t.Errorf("%d keys", n.keyFiles())
			}
		})
	}
}

// killedAt runs the agent on commands until it reaches a fault point, where
// nothing of it goes on: neither its disk nor its connection hears of it again.
func (n *node) killedAt(point FaultPoint, commands ...certctl.Statement) {
	n.t.Helper()
	n.mu.Lock()
	n.commands = commands
	n.mu.Unlock()
	state := n.dir
	copied := filepath.Join(n.t.TempDir(), "state")
	options := n.options()
	reached := make(chan struct{})
	ctx, cancel := context.WithCancel(n.t.Context())
	options.Fault = func(at string) {
		if at != string(point) {
			return
		}
		select {
		case <-reached:
		default:
			if err := copyFolder(state, copied); err != nil {
				n.t.Error(err)
			}
			close(reached)
		}
		<-ctx.Done()
	}
	n.conns = make(chan *memoryConn, 8)
	options.Dial = n.dial(n.conns)
	agent, err := New(options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.asked = nil
	n.reported.forget()
	n.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = agent.Run(ctx) // it is cut off on purpose
	}()
	<-reached
	agent.workStop()
	cancel()
	<-ended
	n.dir = copied // the disk as it was at that moment
}

// copyFolder copies folders and regular files. A program that did it would, for
// the moment between its fork and its start, hold the locks of other tests.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, relative), info.Mode().Perm())
		case !info.Mode().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), content, info.Mode().Perm())
	})
}
