package target_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// startToldHAProxy starts a real HAProxy that is told at its socket.
func startToldHAProxy(t *testing.T) (d *targettest.Daemon, socket string) {
	t.Helper()
	return haproxyWith(t, func(settings map[string]any, socket string) { settings["control"] = socket })
}

func TestHAProxyThatIsTold(t *testing.T) {
	t.Parallel()
	targettest.Run(t, func(t *testing.T) *targettest.Daemon {
		t.Helper()
		d, _ := startToldHAProxy(t)
		return d
	})
}

// tellHAProxy sends a command as somebody else would.
func tellHAProxy(t *testing.T, socket, command string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, command+"\n")
	must(t, err)
	answer, err := io.ReadAll(conn)
	must(t, err)
	return string(answer)
}

// workerOf is the process id of the worker that answers.
func workerOf(t *testing.T, socket string) string {
	t.Helper()
	for line := range strings.Lines(tellHAProxy(t, socket, "show info")) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strings.TrimSpace(pid)
		}
	}
	t.Fatal("HAProxy does not say which process it is")
	return ""
}

// opened opens the target once, as an agent does.
func opened(t *testing.T, d *targettest.Daemon) *target.Target {
	t.Helper()
	out, err := target.Open(d.Spec, target.Env{Policy: d.Policy, Now: time.Now, StateDir: t.TempDir()})
	must(t, err)
	return out
}

func apply(t *testing.T, opened *target.Target, outcome certctl.ReceiptOutcome, installs ...target.Install) certctl.Receipt {
	t.Helper()
	receipts := opened.Apply(t.Context(), installs)
	for _, r := range receipts {
		if r.Outcome != outcome {
			t.Fatalf("receipt %+v", r)
		}
	}
	return receipts[0]
}

// keepsAsking sends one request after the other on one connection, until the context
// ends. The error says why the connection did not last.
func keepsAsking(ctx context.Context, address string, first func()) (requests int, err error) {
	conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: "shop.example.com", InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address) //nolint:gosec // it is about the connection
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for ; ctx.Err() == nil; requests++ {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"); err != nil {
			return requests, err
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return requests, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return requests, err
		}
		if response.StatusCode != http.StatusOK || response.Close {
			return requests, fmt.Errorf("answer %s, and close is %t", response.Status, response.Close)
		}
		if requests == 0 {
			first()
		}
	}
	return requests, nil
}

// Nothing is reloaded for a place that HAProxy has: the process stays, and with it
// the connections that were there before.
func TestHAProxyIsNotReloaded(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	next, web := targettest.Installs(t, "shop", "shop.example.com"), opened(t, d)
	began := workerOf(t, socket)
	apply(t, web, certctl.OutcomeVerified, next())
	worker := workerOf(t, socket)
	if worker == began {
		t.Error("a place that is new was not loaded by a reload")
	}

	const connections = 8
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group, ready sync.WaitGroup
	ready.Add(connections)
	errs := make(chan error, connections)
	for range connections {
		group.Go(func() {
			var once sync.Once
			defer once.Do(ready.Done)
			requests, err := keepsAsking(ctx, d.Address, func() { once.Do(ready.Done) })
			if err == nil && requests < 10 {
				err = errors.New("too few requests to see anything")
			}
			errs <- err
		})
	}
	ready.Wait()
	for range 5 {
		apply(t, web, certctl.OutcomeVerified, next())
	}
	stop()
	group.Wait()
	for range connections {
		if err := <-errs; err != nil {
			t.Errorf("a connection from before: %v", err)
		}
	}
	if now := workerOf(t, socket); now != worker {
		t.Errorf("worker %s answers instead of %s: HAProxy was reloaded", now, worker)
	}
}

// What HAProxy refuses at its socket leaves the certificate before in force, in
// memory and on the disk, so that a reload would change nothing.
func TestHAProxyRefusesWhileItIsChangedByAnother(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	next, web := targettest.Installs(t, "shop", "shop.example.com"), opened(t, d)
	apply(t, web, certctl.OutcomeVerified, next())
	own := ownCertificate(t, socket)
	other := targettest.PEM(t, targettest.Installs(t, "other", "other.example.com")())
	change := "set ssl cert " + own + " <<\n" + other
	if said := tellHAProxy(t, socket, change); !strings.Contains(said, "Transaction created") {
		t.Fatal(said)
	}
	r := apply(t, web, certctl.OutcomeRolledBack, next())
	if r.Code != "reload_failed" || !strings.Contains(r.Message, "somebody else's change of "+own) || r.Remedy == "" {
		t.Errorf("receipt %+v", r)
	}
	if said := tellHAProxy(t, socket, "show ssl cert"); !strings.Contains(said, "*"+own) {
		t.Errorf("the other's change is gone: %s", said)
	}
	tellHAProxy(t, socket, "abort ssl cert "+own)
	apply(t, web, certctl.OutcomeVerified, next())
}

// ownCertificate is the name of the certificate that no place is for.
func ownCertificate(t *testing.T, socket string) string {
	t.Helper()
	for line := range strings.Lines(tellHAProxy(t, socket, "show ssl cert")) {
		if name := strings.TrimSpace(line); strings.HasSuffix(name, "/a.pem") {
			return name
		}
	}
	t.Fatal("HAProxy has no certificate of its own")
	return ""
}

// An agent that was killed between its words leaves a change that is begun. The next
// one ends it, whichever place it then speaks of.
func TestHAProxyForgetsAChangeOfAnAgentThatWasKilled(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	shop, blog := targettest.Installs(t, "shop", "shop.example.com"), targettest.Installs(t, "blog", "blog.example.com")
	web := opened(t, d)
	apply(t, web, certctl.OutcomeVerified, shop(), blog())
	name := strings.Replace(ownCertificate(t, socket), "/a.pem", "/shop.pem", 1)
	if said := tellHAProxy(t, socket, "set ssl cert "+name+" <<\n"+targettest.PEM(t, shop())); !strings.Contains(said, "Transaction created") {
		t.Fatal(said)
	}
	apply(t, web, certctl.OutcomeVerified, blog())
	if said := tellHAProxy(t, socket, "show ssl cert"); strings.Contains(said, "*") {
		t.Errorf("a change is still begun: %s", said)
	}
}

// A certificate that somebody put into HAProxy's memory is replaced by what is
// installed, when it is installed once more.
func TestHAProxyIsToldAgainWhatAnotherChanged(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	next, web := targettest.Installs(t, "shop", "shop.example.com"), opened(t, d)
	first := next()
	apply(t, web, certctl.OutcomeVerified, first)
	second := next()
	apply(t, web, certctl.OutcomeVerified, second)
	name := strings.Replace(ownCertificate(t, socket), "/a.pem", "/shop.pem", 1)
	tellHAProxy(t, socket, "set ssl cert "+name+" <<\n"+targettest.PEM(t, first))
	if said := tellHAProxy(t, socket, "commit ssl cert "+name); !strings.Contains(said, "Success!") {
		t.Fatal(said)
	}
	worker := workerOf(t, socket)
	apply(t, web, certctl.OutcomeVerified, second)
	if now := workerOf(t, socket); now != worker {
		t.Error("HAProxy was reloaded")
	}
}

// A bundle that HAProxy cannot take at its socket comes by a reload.
func TestHAProxyReloadsForABundleThatIsTooLong(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	web := opened(t, d)
	next := targettest.Installs(t, "shop", "shop.example.com")
	apply(t, web, certctl.OutcomeVerified, next())
	worker := workerOf(t, socket)
	long := next()
	for range 30 {
		long.Command.Chain = append(long.Command.Chain, long.Command.Chain[0]) // the CA has signed itself
	}
	apply(t, web, certctl.OutcomeVerified, long)
	if workerOf(t, socket) == worker {
		t.Error("HAProxy was told of it")
	}
}

// A socket that HAProxy does not have is named, and nothing is changed.
func TestHAProxyWithoutTheSocket(t *testing.T) {
	t.Parallel()
	d, _ := haproxyWith(t, func(settings map[string]any, socket string) { settings["control"] = socket + "-of-none" })
	r := apply(t, opened(t, d), certctl.OutcomeFailed, targettest.Installs(t, "shop", "shop.example.com")())
	if !strings.Contains(r.Message, "the daemon takes no commands at ") {
		t.Errorf("receipt %+v", r)
	}
}

// A test asks at the socket whether it is HAProxy's, and changes nothing there.
func TestATestLooksAtTheSocketOfHAProxy(t *testing.T) {
	t.Parallel()
	d, socket := startToldHAProxy(t)
	worker, loaded := workerOf(t, socket), tellHAProxy(t, socket, "show ssl cert")
	if s := try(t, d)["reload"]; len(s) != 2 || s[0].State != certctl.StepOK || s[0].Subject != socket || s[1].State != certctl.StepOK {
		t.Errorf("reload %+v", s)
	}
	if workerOf(t, socket) != worker || tellHAProxy(t, socket, "show ssl cert") != loaded {
		t.Error("HAProxy is not as it was")
	}
	other := filepath.Join(shortDir(t), "socket")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", other)
	must(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_, _ = io.WriteString(conn, "+OK\r\n")
			_ = conn.Close()
		}
	}()
	for path, want := range map[string]string{socket + "-of-none": "takes no commands at", other: "is not HAProxy"} {
		withSettings(t, d, func(settings map[string]any) { settings["control"] = path })
		if s := try(t, d)["reload"]; len(s) != 2 || s[0].State != certctl.StepFails || !strings.Contains(s[0].Message, want) || s[0].Remedy == "" {
			t.Errorf("%s: %+v", path, s)
		}
	}
}
