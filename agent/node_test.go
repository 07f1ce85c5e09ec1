package agent

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// memoryTarget notes what it was asked to serve.
type memoryTarget struct {
	mu        sync.Mutex // guards all below
	batches   [][]Install
	recovered int
	forgotten []certctl.ForgetCommand
	erased    []certctl.Digest
	erasing   error // what Erase returns
	outcome   certctl.ReceiptOutcome
	drifted   error         // what Inspect finds
	enter     chan struct{} // when set, Apply sends here and then
	leave     chan struct{} // waits here
}

func (m *memoryTarget) Apply(ctx context.Context, installs []Install) []certctl.Receipt {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.enter != nil {
		m.enter <- struct{}{}
		select {
		case <-m.leave:
		case <-ctx.Done():
		}
	}
	m.batches = append(m.batches, installs)
	var receipts []certctl.Receipt
	for _, i := range installs {
		receipts = append(receipts, certctl.Receipt{
			Deployment: i.Command.Deployment, Binding: i.Command.Binding, Version: i.Command.Version,
			Fingerprint: i.Command.Fingerprint, Outcome: m.outcome, At: time.Now(),
		})
	}
	return receipts
}

func (m *memoryTarget) Recover(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recovered++
	return nil
}

func (m *memoryTarget) Forget(_ context.Context, c certctl.ForgetCommand) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgotten = append(m.forgotten, c)
	return nil
}

func (m *memoryTarget) Inspect(place string, _ certctl.Slot, _, _ certctl.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drifted != nil && place != "shop" {
		return certctl.Errorf(certctl.Internal, "asked about the place %q", place)
	}
	return m.drifted
}

func (m *memoryTarget) Erase(place string, _ certctl.Slot, spki certctl.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if place != "shop" {
		return certctl.Errorf(certctl.Internal, "erasing at %q", place)
	}
	m.erased = append(m.erased, spki)
	return m.erasing
}

// node is an enrolled agent of a test and what it works with.
type node struct {
	*platform
	dir      string
	target   *memoryTarget
	policy   *Policy
	open     func(certctl.TargetCommand) (Target, error)
	running  *Agent
	conn     *memoryConn
	conns    chan *memoryConn
	finished chan struct{} // closed when Run has returned
	result   error         // what it returned
	stop     func() error  // ends the agent and returns that
}

func enrolled(t testing.TB) *node {
	t.Helper()
	n := &node{platform: newPlatform(t), dir: t.TempDir() + "/state", target: &memoryTarget{outcome: certctl.OutcomeVerified}, policy: &Policy{Kinds: []string{"files"}}}
	n.open = func(certctl.TargetCommand) (Target, error) { return n.target, nil }
	if _, err := Enrol(t.Context(), n.enrolOptions()); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) enrolOptions() EnrolOptions {
	return EnrolOptions{
		Server: n.api.URL, Token: "token", CAFingerprint: n.platform.fingerprint(), Name: "web-1", Dir: n.dir, MachineID: "machine",
		Version: "test", NewBusKey: newTestBusKey,
	}
}

// newTestBusKey has the form of an nkey; only the bus knows what is in one.
func newTestBusKey() ([]byte, string, error) {
	return []byte("seed"), "U" + strings.Repeat("A", 55), nil
}

func (n *node) options() Options {
	return Options{
		Dir: n.dir, Policy: n.policy, Version: "test", MachineID: "machine",
		Dial: n.dial(n.conns), Log: zerolog.Nop(),
		Targets: Targets{
			Kinds: []string{"nginx", "files"},
			Open:  n.open,
		},
	}
}

// start runs the agent and waits for its first request.
func (n *node) start() {
	n.t.Helper()
	n.run()
	n.conn = <-n.conns
	n.await("a mailbox request", func() bool { return len(n.asked) > 0 })
}

// run runs the agent.
func (n *node) run() {
	n.t.Helper()
	n.conns = make(chan *memoryConn, 8)
	agent, err := New(n.options())
	if err != nil {
		n.t.Fatal(err)
	}
	agent.retryUnit, agent.callFirst, agent.driftEvery = time.Millisecond, time.Second, 5*time.Millisecond
	n.running = agent
	n.mu.Lock()
	n.asked = nil
	n.reported.forget()
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(n.t.Context())
	n.finished = make(chan struct{})
	go func() {
		n.result = agent.Run(ctx)
		close(n.finished)
	}()
	n.stop = func() error {
		cancel()
		return n.ended()
	}
	n.t.Cleanup(func() { _ = n.stop() }) // tests that care have called it
}

// ended waits for the agent to end and returns what Run returned.
func (n *node) ended() error {
	n.t.Helper()
	select {
	case <-n.finished:
		return n.result
	case <-time.After(20 * time.Second):
		n.t.Fatal("the agent did not end")
		return nil
	}
}

func (n *node) keyCommand(order certctl.ID) certctl.KeyCommand {
	return certctl.KeyCommand{
		Order: order, Holder: certctl.ID{2}, Certificate: certctl.ID{3}, CertificateName: "shop", Algorithm: certctl.ECDSAP256,
		Names: certctl.Names{DNS: []string{"shop.example.com"}}, NotAfter: time.Now().Add(time.Hour),
	}
}

// csr lets the agent make a key and returns its request.
func (n *node) csr(order certctl.ID, number int64) *certctl.CSR {
	n.t.Helper()
	n.put(n.conn, n.order(certctl.CommandMakeKey, order, number, n.keyCommand(order)))
	n.await("a CSR", func() bool { return len(n.csrs(order)) > 0 })
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.csrs(order)[0]
}

// csrs returns the requests reported for an order.
func (n *node) csrs(order certctl.ID) (out []*certctl.CSR) {
	for _, s := range n.reports(certctl.ReportCSR) {
		var report certctl.CSRReport
		if err := s.Decode(&report); err != nil || s.Object != report.Order {
			n.t.Errorf("report %+v, %v", report, err)
		}
		csr, err := certctl.ParseCSR(report.CSR)
		if err != nil {
			n.t.Error(err)
		}
		if report.Order == order {
			out = append(out, csr)
		}
	}
	return out
}

// receipts returns the receipts reported.
func (n *node) receipts() (out []certctl.Receipt) {
	for _, s := range n.reports(certctl.ReportReceipt) {
		var receipt certctl.Receipt
		if err := s.Decode(&receipt); err != nil || s.Object != receipt.Deployment {
			n.t.Errorf("receipt %+v, %v", receipt, err)
		}
		out = append(out, receipt)
	}
	return out
}

// deployments returns the deployments that have a receipt. One that is asked for
// again gets its receipt again.
func (n *node) deployments() map[certctl.ID]bool {
	out := map[certctl.ID]bool{}
	for _, receipt := range n.receipts() {
		out[receipt.Deployment] = true
	}
	return out
}

func (n *node) refusals() (out []certctl.Refusal) {
	for _, s := range n.reports(certctl.ReportRefusal) {
		var refusal certctl.Refusal
		if err := s.Decode(&refusal); err != nil {
			n.t.Error(err)
		}
		out = append(out, refusal)
	}
	return out
}

var testTarget = certctl.ID{0xaa}

func (n *node) targetCommand(kind string) certctl.Statement {
	return n.order(certctl.CommandTarget, testTarget, 1, certctl.TargetCommand{Target: testTarget, Name: "t", Kind: kind, Settings: json.RawMessage("{}")})
}

// installCommand is for a leaf of the CSR's key.
func (n *node) installCommand(csr *certctl.CSR, deployment byte) certctl.InstallCommand {
	n.t.Helper()
	request, err := x509.ParseCertificateRequest(csr.DER)
	if err != nil {
		n.t.Fatal(err)
	}
	leaf := n.root.leaf(n.t, request.PublicKey, "shop.example.com")
	return certctl.InstallCommand{
		Deployment: certctl.ID{1, deployment}, Binding: certctl.ID{2}, Target: testTarget, Certificate: certctl.ID{3}, CertificateName: "shop",
		Place: "shop", Slot: certctl.SlotDefault, Version: certctl.ID{4, deployment}, Fingerprint: certctl.DigestOf(leaf), SPKI: csr.SPKI,
		Names: csr.Names, Leaf: leaf, NotAfter: time.Now().Add(time.Hour),
	}
}

func (n *node) installOrder(c certctl.InstallCommand, number int64) certctl.Statement {
	return n.order(certctl.CommandInstall, c.Deployment, number, c)
}
