package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// realTarget is a target of package target as the programs wire it.
type realTarget struct{ target.Opened }

func (r realTarget) Apply(ctx context.Context, installs []Install) []certctl.Receipt {
	converted := make([]target.Install, len(installs))
	for i, install := range installs {
		converted[i] = target.Install(install)
	}
	return r.Opened.Apply(ctx, converted)
}

func (r realTarget) Bind(places func() []Place) {
	r.Opened.(target.Binder).Bind(func() []target.Place { //nolint:forcetypeassert // of its kind
		var bound []target.Place
		for _, place := range places() {
			bound = append(bound, target.Place(place))
		}
		return bound
	})
}

func (r realTarget) Close() error {
	return r.Opened.(target.Binder).Close() //nolint:forcetypeassert // of its kind
}

// handsOut makes the node's targets those of the real table, and returns a folder with
// a policy that allows it. There programs ask the agent.
func handsOut(n *node) (dir string) {
	n.t.Helper()
	dir, err := os.MkdirTemp("", "certctl-") // a socket's path is short
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n.policy = &Policy{Kinds: []string{"socket"}, Directories: []string{dir}, Sockets: []string{dir}}
	n.open = func(spec certctl.TargetCommand) (Target, error) {
		opened, err := target.Kinds().Open(spec, target.Env{Policy: n.policy, Now: time.Now, StateDir: filepath.Join(dir, "state")})
		if err != nil {
			return nil, err
		}
		return realTarget{opened}, nil
	}
	return dir
}

// socketCommand describes the target, with a socket of this name.
func (n *node) socketCommand(dir, socket string, revision int64) certctl.Statement {
	settings, err := json.Marshal(map[string]any{"directory": filepath.Join(dir, "tls"), "socket": filepath.Join(dir, socket), "wait_seconds": 0})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.order(certctl.CommandTarget, testTarget, revision, certctl.TargetCommand{Target: testTarget, Name: "t", Kind: "socket", Settings: settings})
}

// fittingCommand is installCommand with all names of the leaf, as a real target wants it.
func (n *node) fittingCommand(csr *certctl.CSR, deployment byte) certctl.InstallCommand {
	n.t.Helper()
	c := n.installCommand(csr, deployment)
	facts, err := certctl.ParseLeaf(c.Leaf)
	if err != nil {
		n.t.Fatal(err)
	}
	c.Names = facts.Names
	return c
}

// askedAt returns what programs are told of the place "shop" at a socket.
func askedAt(t *testing.T, socket string) (status int, err error) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://agent/v1/certificates/shop", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err
	}
	_, readErr := io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(readErr, response.Body.Close())
}

func isGone(t *testing.T, when, socket string) {
	t.Helper()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: the socket is there: %v", when, err)
	}
}

func isServed(t *testing.T, when, socket string) {
	t.Helper()
	if status, err := askedAt(t, socket); err != nil || status != http.StatusOK {
		t.Errorf("%s: %d, %v", when, status, err)
	}
}

// The agent hands out what is bound, from its start on and without the server; by the
// newest description of the target; and nothing any more once it is bound no more, as is
// so with a target that is archived.
func TestHandsOutWhatIsBound(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	dir := handsOut(n)
	socket, other := filepath.Join(dir, "socket"), filepath.Join(dir, "other")
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	installed := func(revision, number int64, deployment byte, name string) {
		t.Helper()
		c := n.fittingCommand(csr, deployment)
		n.put(n.conn, n.socketCommand(dir, name, revision), n.installOrder(c, number))
		n.await("a receipt", func() bool { return n.deployments()[c.Deployment] })
		for _, r := range n.receipts() {
			if r.Deployment == c.Deployment && (r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "installed") {
				t.Fatalf("receipt %+v", r)
			}
		}
	}
	installed(1, 5, 1, "socket")
	isServed(t, "installed", socket)

	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	isGone(t, "the agent has ended", socket)
	n.start()
	isServed(t, "the agent has begun anew", socket)

	installed(2, 6, 2, "other")
	isGone(t, "another socket", socket)
	isServed(t, "another socket", other)

	forget := n.order(certctl.CommandForget, certctl.ID{2}, 7, certctl.ForgetCommand{Binding: certctl.ID{2}, Target: testTarget, Place: "shop", Slot: certctl.SlotDefault})
	n.put(n.conn, forget)
	n.await("word that it is forgotten", func() bool { return len(n.reports(certctl.ReportForgotten)) > 0 })
	isGone(t, "forgotten", other)
	if _, err := os.Stat(filepath.Join(dir, "tls", "shop", "current")); err != nil {
		t.Errorf("the files: %v", err)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n.start()
	isGone(t, "forgotten before the agent began", other)
}

// Word of the end of a binding that comes after its place was bound anew takes nothing
// away from who is there now, neither what is handed out nor the files.
func TestForgetLeavesWhatIsBoundAnew(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	dir := handsOut(n)
	n.start()
	before := n.fittingCommand(n.csr(certctl.ID{1}, 1), 1)
	anew := n.fittingCommand(n.csr(certctl.ID{9}, 1), 2)
	anew.Binding = certctl.ID{7}
	forget := certctl.ForgetCommand{Binding: before.Binding, Target: testTarget, Place: "shop", Slot: certctl.SlotDefault, Remove: true}
	n.put(n.conn, n.socketCommand(dir, "socket", 1), n.installOrder(before, 5))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	n.put(n.conn, n.installOrder(anew, 6))
	n.await("both receipts", func() bool { return len(n.receipts()) == 2 })
	n.put(n.conn, n.order(certctl.CommandForget, before.Binding, 7, forget))
	n.await("word that it is forgotten", func() bool { return len(n.reports(certctl.ReportForgotten)) > 0 })
	isServed(t, "the one before is forgotten", filepath.Join(dir, "socket"))
}

// A description that the policy refuses ends what the one before has allowed.
func TestRefusedDescriptionEndsTheOneBefore(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	dir := handsOut(n)
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	n.put(n.conn, n.socketCommand(dir, "socket", 1), n.installOrder(n.fittingCommand(csr, 1), 5))
	n.await("a receipt", func() bool { return len(n.receipts()) == 1 })
	isServed(t, "installed", filepath.Join(dir, "socket"))
	n.put(n.conn, n.socketCommand(dir, "../socket", 2), n.installOrder(n.fittingCommand(csr, 2), 6))
	n.await("a refusal", func() bool { return len(n.refusals()) == 1 })
	isGone(t, "refused", filepath.Join(dir, "socket"))
	isGone(t, "refused", filepath.Join(filepath.Dir(dir), "socket"))
}

// A target whose socket another has is refused at once, and costs no other anything.
func TestSocketOfAnotherIsOneTargetsTrouble(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	dir := handsOut(n)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "taken"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	n.start()
	csr := n.csr(certctl.ID{1}, 1)
	taken, free := n.fittingCommand(csr, 1), n.fittingCommand(csr, 2)
	free.Target, free.Binding = certctl.ID{0xbb}, certctl.ID{7}
	settings, err := json.Marshal(map[string]any{"directory": filepath.Join(dir, "free-tls"), "socket": filepath.Join(dir, "free"), "wait_seconds": 0})
	if err != nil {
		t.Fatal(err)
	}
	second := n.order(certctl.CommandTarget, free.Target, 1, certctl.TargetCommand{Target: free.Target, Name: "u", Kind: "socket", Settings: settings})
	n.put(n.conn, n.socketCommand(dir, "taken", 1), second, n.installOrder(taken, 5), n.installOrder(free, 6))
	n.await("both receipts", func() bool { return len(n.receipts()) == 2 })
	for _, r := range n.receipts() {
		want := certctl.OutcomeFailed
		if r.Deployment == free.Deployment {
			want = certctl.OutcomeInstalled
		}
		if r.Outcome != want || want == certctl.OutcomeFailed && (r.Code != "reload_failed" || r.Remedy == "") {
			t.Errorf("receipt %+v", r)
		}
	}
	isServed(t, "the other", filepath.Join(dir, "free"))
}
