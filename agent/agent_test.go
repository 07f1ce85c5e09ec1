package agent

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestWalk(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	if csr.Algorithm != certctl.ECDSAP256 || !csr.Names.Equal(certctl.Names{DNS: []string{"shop.example.com"}}) {
		t.Errorf("CSR %+v", csr)
	}
	request, err := x509.ParseCertificateRequest(csr.DER)
	if err != nil || request.Subject.CommonName != "" {
		t.Errorf("subject %s, %v", request.Subject, err)
	}
	c := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	n.await("a receipt", func() bool { return len(n.receipts()) > 0 })
	if key := n.target.batches[0][0].Key; key == nil {
		t.Fatal("no key")
	} else if spki, err := certctl.SPKIHash(key.Public()); err != nil || spki != csr.SPKI {
		t.Errorf("another key: %v", err)
	}
	if receipt := n.receipts()[0]; receipt.Outcome != certctl.OutcomeVerified || receipt.Version != c.Version {
		t.Errorf("receipt %+v", receipt)
	}
	n.put(n.conn)
	n.await("what is installed", func() bool {
		last := n.asked[len(n.asked)-1]
		return len(last.Installed) == 1 && last.Installed[0] == certctl.Installed{Binding: c.Binding, Version: c.Version, Number: 10}
	})
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if keys := n.running.journal.Keys("report/"); len(keys) != 0 {
		t.Errorf("not reported: %v", keys)
	}
}

// The same order gets the same CSR, also after a restart and with another number.
func TestSameOrderSameCSR(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	order := certctl.ID{1}
	first := n.csr(order, 1)
	repeated := n.order(certctl.CommandMakeKey, order, 2, n.keyCommand(order))
	n.putUntil(n.conn, "the CSR again", func() bool { return len(n.csrs(order)) > 1 }, repeated)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.start()
	again := n.csr(order, 3)
	if !bytes.Equal(first.DER, again.DER) {
		t.Error("another CSR")
	}
	if files, err := os.ReadDir(filepath.Join(n.dir, "keys")); err != nil || len(files) != 1 {
		t.Errorf("%d keys, %v", len(files), err)
	}
}

// A repeated number is answered with the stored receipt, an older one not at
// all; neither reaches the target.
func TestRepeatedAndOlderNumbers(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	c := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	n.putUntil(n.conn, "the same receipt", func() bool { return len(n.receipts()) > 1 }, n.installOrder(c, 10))
	n.mu.Lock()
	stored := n.reports(certctl.ReportReceipt)
	n.mu.Unlock()
	if !bytes.Equal(stored[0].Signature, stored[1].Signature) {
		t.Error("another receipt")
	}
	older, newer := n.installCommand(csr, 2), n.installCommand(csr, 3)
	n.mu.Lock()
	asked := len(n.asked)
	n.mu.Unlock()
	n.putUntil(n.conn, "two requests", func() bool { return len(n.asked) > asked+1 }, n.installOrder(older, 9))
	n.put(n.conn, n.installOrder(newer, 11))
	n.await("the newer receipt", func() bool {
		receipts := n.receipts()
		return receipts[len(receipts)-1].Deployment == newer.Deployment
	})
	if len(n.target.batches) != 2 {
		t.Errorf("%d batches", len(n.target.batches))
	}
}

// A server that dies with a request in hand costs moments: another one is asked.
func TestAnUnansweredRequestIsAskedAgainSoon(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	n.swallow.Store(1)
	n.csr(certctl.ID{1}, 1)
	if n.swallow.Load() > 0 {
		t.Error("nothing was swallowed")
	}
}

// Receipts are repeated until the server has recorded them, also by the next
// process; a final refusal ends that.
func TestReceiptsAreRepeatedUntilRecorded(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	n.mu.Lock()
	n.refuse = func(certctl.Statement) *certctl.ReportAnswer { return &certctl.ReportAnswer{Message: "busy"} }
	n.mu.Unlock()
	c := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	n.await("repetitions", func() bool { return len(n.receipts()) > 3 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.commands = nil
	n.refuse = func(certctl.Statement) *certctl.ReportAnswer { return &certctl.ReportAnswer{Final: true} }
	n.mu.Unlock()
	n.start()
	n.await("the receipt of the process before", func() bool { return len(n.receipts()) > 0 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if n.target.recovered != 1 {
		t.Errorf("recovered %d times", n.target.recovered)
	}
	if keys := n.running.journal.Keys("report/"); len(keys) != 0 {
		t.Errorf("still to be reported: %v", keys)
	}
}

// A batch that is cut off by the end of the agent is not answered, and done
// again by the next process.
func TestStoppedBatchIsDoneAgain(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	c := n.installCommand(csr, 1)
	n.target.enter, n.target.leave = make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	go func() { // as a process that is killed: nothing waits for the batch
		<-n.target.enter
		n.running.workStop()
		close(ended)
	}()
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	<-ended
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if len(n.receipts()) != 0 {
		t.Error("a receipt was sent")
	}
	n.target.enter = nil
	n.start()
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	if len(n.target.batches) != 2 {
		t.Errorf("%d batches", len(n.target.batches))
	}
}

// One slow target holds up neither the other targets nor the mailbox, and what
// arrives for it meanwhile is one batch.
func TestSlowTargetHoldsUpNobody(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	slow, other := &memoryTarget{outcome: certctl.OutcomeVerified}, certctl.ID{0xbb}
	slow.enter, slow.leave = make(chan struct{}), make(chan struct{})
	n.open = func(spec certctl.TargetCommand) (Target, error) {
		if spec.Target == testTarget {
			return slow, nil
		}
		return n.target, nil
	}
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	first := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(first, 10))
	<-slow.enter
	quick := n.installCommand(csr, 2)
	quick.Target, quick.Binding = other, certctl.ID{7}
	target := n.order(certctl.CommandTarget, other, 1, certctl.TargetCommand{Target: other, Kind: "files"})
	second, third := n.installCommand(csr, 3), n.installCommand(csr, 4)
	second.Binding, third.Binding = certctl.ID{8}, certctl.ID{9}
	n.put(n.conn, n.installOrder(first, 10), target, n.installOrder(quick, 11), n.installOrder(second, 12), n.installOrder(third, 13))
	n.await("the quick target's receipt", func() bool { return len(n.receipts()) == 1 })
	slow.leave <- struct{}{}
	<-slow.enter
	slow.leave <- struct{}{}
	n.await("all receipts", func() bool { return len(n.deployments()) == 4 })
	if len(slow.batches) != 2 || len(slow.batches[1]) != 2 {
		t.Errorf("%d batches", len(slow.batches))
	}
}

func TestSealedKey(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	csrDER, err := makeCSR(key, certctl.Names{DNS: []string{"shop.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certctl.ParseCSR(csrDER)
	if err != nil {
		t.Fatal(err)
	}
	c := n.installCommand(csr, 1)
	info := certctl.SealInfo{Purpose: certctl.SealPrivateKey, Object: c.Certificate, Agent: n.platform.agent, SPKI: c.SPKI}
	if c.SealedKey, err = certctl.SealTo(n.platform.enrolled[0].Keys.Sealing, info, der); err != nil {
		t.Fatal(err)
	}
	moved := c // the same ciphertext for another certificate
	moved.Certificate, moved.Binding, moved.Deployment = certctl.ID{99}, certctl.ID{98}, certctl.ID{97}
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10), n.installOrder(moved, 11))
	n.await("receipts", func() bool { return len(n.receipts()) == 2 })
	for _, receipt := range n.receipts() {
		want, code := certctl.OutcomeVerified, ""
		if receipt.Deployment == moved.Deployment {
			want, code = certctl.OutcomeFailed, "key_missing"
		}
		if receipt.Outcome != want || receipt.Code != code {
			t.Errorf("receipt %+v", receipt)
		}
	}
}

func TestKeyMissingIsAReceipt(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	if err := os.Remove(n.running.store.path(csr.SPKI)); err != nil {
		t.Fatal(err)
	}
	n.put(n.conn, n.targetCommand("files"), n.installOrder(n.installCommand(csr, 1), 10))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	if got := n.receipts()[0]; got.Outcome != certctl.OutcomeFailed || got.Code != "key_missing" || got.Remedy == "" {
		t.Errorf("receipt %+v", got)
	}
}

// What the node will not or cannot do is said with a remedy.
func TestRefusals(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	expired := n.keyCommand(certctl.ID{5})
	expired.NotAfter = time.Now().Add(-time.Minute)
	reuse := n.keyCommand(certctl.ID{6})
	reuse.ReuseSPKI = certctl.DigestOf([]byte("never seen"))
	c := n.installCommand(csr, 1)
	n.put(n.conn,
		n.order(certctl.CommandMakeKey, expired.Order, 2, expired), n.order(certctl.CommandMakeKey, reuse.Order, 3, reuse),
		n.targetCommand("nginx"), n.installOrder(c, 10))
	codes := func() map[string]certctl.Refusal {
		out := map[string]certctl.Refusal{}
		for _, refusal := range n.refusals() {
			out[refusal.Code] = refusal
		}
		return out
	}
	n.await("three refusals", func() bool { return len(codes()) == 3 })
	for _, code := range []string{"expired", "key_missing", "denied"} {
		if got := codes()[code]; got.Message == "" || got.Remedy == "" {
			t.Errorf("%s: %+v", code, got)
		}
	}
	if len(n.target.batches) != 0 {
		t.Error("the target was touched")
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	c := n.installCommand(csr, 1)
	n.put(n.conn, n.targetCommand("files"), n.installOrder(c, 10))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	forget := certctl.ForgetCommand{Binding: c.Binding, Target: testTarget, Remove: true}
	n.put(n.conn, n.order(certctl.CommandForget, c.Binding, 11, forget))
	n.await("the answer", func() bool { return len(n.reports(certctl.ReportForgotten)) == 1 })
	if len(n.target.forgotten) != 1 || n.target.forgotten[0] != forget {
		t.Errorf("forgotten %+v", n.target.forgotten)
	}
	n.put(n.conn, n.installOrder(c, 10)) // cannot come back
	n.await("the request", func() bool {
		last := n.asked[len(n.asked)-1]
		return len(n.asked) > 4 && len(last.Installed) == 0
	})
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if len(n.target.batches) != 1 {
		t.Error("installed again")
	}
	if files, err := os.ReadDir(filepath.Join(n.dir, "keys")); err != nil || len(files) != 0 {
		t.Errorf("%d keys are left, %v", len(files), err)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	n.mu.Lock()
	n.platform.stop = "a newer session has begun"
	n.mu.Unlock()
	n.conn.ring()
	var stopped *StoppedError
	if err := n.ended(); !errors.As(err, &stopped) || stopped.Reason != "a newer session has begun" {
		t.Errorf("got %v", err)
	}
}

// Orders that are put twice before the first key is journalled get one key.
func TestOneKeyPerOrder(t *testing.T) {
	t.Parallel()
	n := idle(t)
	order := certctl.ID{1}
	command := n.keyCommand(order)
	j := job{statement: n.order(certctl.CommandMakeKey, order, 1, command), key: &command}
	n.running.workCtx = t.Context()
	n.running.makeKeys([]job{j})
	n.running.makeKeys([]job{j})
	if files, err := os.ReadDir(filepath.Join(n.dir, "keys")); err != nil || len(files) != 1 {
		t.Errorf("%d keys, %v", len(files), err)
	}
}

func TestOneAgentPerDirectoryAndHealth(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	if _, err := Health(t.Context(), n.dir); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("health before: %v", err)
	}
	n.start()
	if _, err := New(n.options()); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a second agent: %v", err)
	}
	n.await("contact", func() bool { return !n.running.state.snapshot().LastContact.IsZero() })
	live, err := Health(t.Context(), n.dir)
	if err != nil || live.PID != os.Getpid() || live.Agent != n.platform.agent || !live.Connected || live.TrustVersion != 1 {
		t.Errorf("health %+v, %v", live, err)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Health(t.Context(), n.dir); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("health afterwards: %v", err)
	}
}

// A journal that cannot be written ends the agent: what it did it could not prove.
func TestEndsWhenTheDiskFails(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	if err := n.running.journal.file.Close(); err != nil {
		t.Fatal(err)
	}
	n.put(n.conn, n.order(certctl.CommandMakeKey, certctl.ID{1}, 1, n.keyCommand(certctl.ID{1})))
	if err := n.ended(); certctl.ErrorCode(err) != certctl.Internal {
		t.Errorf("got %v", err)
	}
}
