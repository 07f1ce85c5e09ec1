package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/node"
)

// binary is the program, built as it is released, once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "certctl-agent")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "certctl-agent")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a folder in the system's temporary one
	}
	os.Exit(code)
}

// api is as much of a server as enrolment and credentials need.
type api struct {
	t       *testing.T
	server  *httptest.Server
	root    []byte // DER
	fleet   ed25519.PrivateKey
	ids     certctl.Enrolled
	retired atomic.Bool
}

func newAPI(t *testing.T) *api {
	t.Helper()
	public, fleet, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	a := &api{t: t, fleet: fleet}
	if a.root, err = x509.CreateCertificate(rand.Reader, template, template, public, fleet); err != nil {
		t.Fatal(err)
	}
	a.server = httptest.NewUnstartedServer(a)
	a.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{a.root}, PrivateKey: fleet}}}
	now := time.Now()
	a.ids = certctl.Enrolled{Installation: certctl.NewID(now), Agent: certctl.NewID(now), Name: "web-1", FleetKey: public}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root})
	// Nothing listens on port 1: the agent is off line, and must not mind.
	document := certctl.TrustDocument{
		Version: 1, Installation: a.ids.Installation, CABundle: string(bundle), APIURLs: []string{"https://" + a.server.Listener.Addr().String()}, BusURLs: []string{"tls://127.0.0.1:1"},
	}
	a.ids.Trust, err = certctl.NewStatement(fleet, certctl.Statement{
		Domain: certctl.DomainTrust, Installation: a.ids.Installation, Kind: "trust", Time: now,
	}, document)
	if err != nil {
		t.Fatal(err)
	}
	a.server.StartTLS() // which reads all of the above
	t.Cleanup(a.server.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := any(map[string][]byte{"nonce": []byte("nonce")})
	switch {
	case a.retired.Load():
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		answer = map[string]string{"title": "this agent was retired"}
	case strings.HasSuffix(r.URL.Path, "/enroll"):
		answer = a.ids
	case strings.HasSuffix(r.URL.Path, "/credentials"):
		now := time.Now()
		answer = certctl.Credentials{JWT: "x", ExpiresAt: now.Add(time.Hour), RenewAt: now.Add(time.Minute), Trust: a.ids.Trust}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.t.Error(err)
	}
}

// command is the program with a state directory and without our environment.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = []string{"CERTCTL_DATA_DIR=" + dir}
	return cmd
}

// result runs it and returns the exit code and what it said.
func result(t *testing.T, dir string, args ...string) (int, string) {
	t.Helper()
	cmd := command(t, dir, args...)
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(output)
}

func enrolIn(t *testing.T, a *api) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	code, output := result(t, dir, "enroll", "--server", a.server.URL, "--token", "token", "--name", "web-1",
		"--ca-fingerprint", certctl.DigestOf(a.root).String())
	if code != node.ExitOK || !strings.Contains(output, "enrolled as web-1") {
		t.Fatalf("exit code %d: %s", code, output)
	}
	return dir
}

// start runs the agent and waits until it logs a line with the text.
func start(t *testing.T, dir, text string) *exec.Cmd {
	t.Helper()
	cmd := command(t, dir, "run")
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	ready := make(chan struct{})
	announce := sync.OnceFunc(func() { close(ready) })
	go func() {
		defer announce()
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			if bytes.Contains(lines.Bytes(), []byte(text)) {
				announce()
			}
		}
	}()
	<-ready
	return cmd
}

// The agent is alive while it cannot reach the bus, and its health check fails
// as soon as it is dead.
func TestLife(t *testing.T) {
	t.Parallel()
	dir := enrolIn(t, newAPI(t))
	if code, output := result(t, dir, "health"); code != node.ExitUnhealthy {
		t.Errorf("health before the start: exit code %d: %s", code, output)
	}
	cmd := start(t, dir, "credentials renewed")
	if code, output := result(t, dir, "health"); code != node.ExitOK || !strings.Contains(output, "web-1 runs as process "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("health: exit code %d: %s", code, output)
	}
	if code, output := result(t, dir, "health", "--max-silence", "1ns"); code != node.ExitUnhealthy || !strings.Contains(output, "has not answered") {
		t.Errorf("health with a limit: exit code %d: %s", code, output)
	}
	if code, output := result(t, dir, "run"); code != node.ExitError || !strings.Contains(output, "another agent runs") {
		t.Errorf("a second agent: exit code %d: %s", code, output)
	}
	const mostKiB = 30 << 10
	if kib := residentKiB(t, cmd.Process.Pid); kib > mostKiB {
		t.Errorf("%d KiB resident, more than %d", kib, mostKiB)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if code, output := result(t, dir, "health"); code != node.ExitUnhealthy {
		t.Errorf("health of a dead agent: exit code %d: %s", code, output)
	}
	again := start(t, dir, "agent starts")
	if err := again.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestRetiredHasItsOwnExitCode(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	dir := enrolIn(t, a)
	a.retired.Store(true)
	if code, output := result(t, dir, "run"); code != node.ExitRetired || !strings.Contains(output, "this agent was retired") {
		t.Errorf("exit code %d: %s", code, output)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	settings := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(settings, []byte("parallell: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run", "--parallel", "0"}, node.ExitUsage, "parallel: must be from 1 to 64"},
		{[]string{"run", "--config", settings}, node.ExitUsage, "unknown key parallell: did you mean parallel?"},
		{[]string{"run", "--policy", "/nonexistent"}, node.ExitUsage, "the policy file cannot be read"},
		{[]string{"run"}, node.ExitError, "run this program with enroll"},
		{[]string{"enroll"}, node.ExitUsage, "server: is needed to enrol"},
		{[]string{"enroll", "--server", "https://localhost", "--token", "cjt_x"}, node.ExitUsage, "ca_fingerprint: is needed to enrol, or ca_file"},
		{[]string{"policy", "check", "--policy", settings}, node.ExitUsage, "field parallell not found"},
		{[]string{"policy", "check"}, node.ExitOK, "directories:"},
	} {
		if code, output := result(t, dir, c.args...); code != c.code || !strings.Contains(output, c.want) {
			t.Errorf("%v: exit code %d: %s", c.args, code, output)
		}
	}
}

// modules are all that the agent may be made of. It runs on every node: a new
// one must be worth its weight and its risk there.
var modules = []string{
	"github.com/alecthomas/kong", "github.com/certctl/certctl", "github.com/klauspost/compress",
	"github.com/mattn/go-colorable", "github.com/mattn/go-isatty", "github.com/nats-io/jwt/v2", "github.com/nats-io/nats.go",
	"github.com/nats-io/nkeys", "github.com/nats-io/nuid", "github.com/pavlo-v-chernykh/keystore-go/v4", "github.com/rs/zerolog", "github.com/synadia-io/orbit.go/jetstreamext", "github.com/synadia-io/orbit.go/natsext",
	"go.yaml.in/yaml/v3", "golang.org/x/crypto", "golang.org/x/sync", "golang.org/x/sys", "software.sslmate.com/src/go-pkcs12",
}

// maxSize of the stripped binary, in bytes.
const maxSize = 20 << 20

func TestDependenciesAndSize(t *testing.T) {
	t.Parallel()
	output, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := slices.Compact(slices.Sorted(strings.FieldsSeq(string(output))))
	for _, module := range linked {
		if !slices.Contains(modules, module) {
			t.Errorf("the agent links %s", module)
		}
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxSize {
		t.Errorf("the binary has %d bytes, more than %d; %v", info.Size(), maxSize, err)
	}
	release, err := os.ReadFile(path)
	if err != nil || bytes.Contains(release, []byte("CERTCTL_FAULT")) {
		t.Errorf("the release knows fault points, %v", err)
	}
}

// residentKiB is what the kernel counts as VmRSS.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
