package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// A reader made at the command line, the example that reads with it, and the end
// of both.
func TestTheExampleReadsWhatItsCredentialsAllow(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.ok("", "certificates", "create", "shop", "-d", "shop.example.com", "--issuer", "local", "--target", "web", "--wait")
	file := filepath.Join(t.TempDir(), "reader.json")
	created := s.ok("", "events", "credentials", "create", "automation", "--subjects", "certificate.certificate_issued,agent.>",
		"--owner", "platform-team", "--expires", "1h", "-o", "json")
	s.must(os.WriteFile(file, []byte(created), 0o600))
	if list := s.ok("", "events", "credentials", "list"); !strings.Contains(list, "platform-team") || !strings.Contains(list, "certificate.certificate_issued") {
		t.Errorf("list\n%s", list)
	}
	if code, _, stderr := s.cli("", "events", "credentials", "create", "typo", "--subjects", "certificate.issued"); code == 0 || !strings.Contains(stderr, "names no event") {
		t.Errorf("a reader of an event that there is not: %d, %s", code, stderr)
	}

	example := exec.CommandContext(t.Context(), filepath.Join(binaries, "events"), "-ca", s.Server.CAFile, file)
	var complaint bytes.Buffer
	example.Stderr = &complaint
	output, err := example.StdoutPipe()
	s.must(err)
	s.must(example.Start())
	ended := make(chan error, 1)
	lines := make(chan string, 100)
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			lines <- scanner.Text()
		}
		close(lines)
		ended <- example.Wait()
	}()

	// What was before it, and what comes: each of the events asked for, no other.
	seen := map[certctl.EventName]int{}
	read := func(line string) {
		var e struct {
			ID, Type string
			Event    certctl.Event
		}
		s.must(json.Unmarshal([]byte(line), &e))
		if e.Event.Name != certctl.EventCertificateIssued && e.Event.Aggregate != certctl.AggregateAgent {
			t.Errorf("not asked for: %s", line)
		}
		if e.ID != e.Event.ID.String() || e.Type == "" {
			t.Errorf("headers and body differ: %s", line)
		}
		seen[e.Event.Name]++
	}
	next := func() {
		select {
		case line, more := <-lines:
			if !more {
				t.Fatalf("the example has ended: %v\n%s", <-ended, &complaint)
			}
			read(line)
		case <-time.After(time.Minute):
			t.Fatalf("no event came; seen %v", seen)
		}
	}
	for seen[certctl.EventAgentEnrolled] == 0 || seen[certctl.EventCertificateIssued] == 0 {
		next()
	}
	before := seen[certctl.EventCertificateIssued]
	s.ok("", "certificates", "renew", "shop", "--wait")
	for seen[certctl.EventCertificateIssued] == before {
		next()
	}

	s.ok("", "events", "credentials", "revoke", "automation")
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(complaint.String(), "the bus has ended the connection") {
			t.Errorf("the example after its credentials were revoked: %v\n%s", err, &complaint)
		}
	case <-time.After(time.Minute):
		t.Error("the example still reads with revoked credentials")
	}
	if code, _, _ := s.cli("", "events", "credentials", "revoke", "automation"); code != 3 {
		t.Errorf("a second revocation by name: exit code %d, want 3", code)
	}
}

// The example in Python is Python; its library cannot be had where the tests run.
func TestTheExampleInPythonParses(t *testing.T) {
	t.Parallel()
	if os.Getenv("CERTCTL_TEST_ALL") == "" {
		t.Skip("./task test:all installs Python")
	}
	parse := func(file string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read())", file).CombinedOutput()
	}
	if out, err := parse("../../../examples/events/events.py"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	broken := filepath.Join(t.TempDir(), "broken.py")
	if err := os.WriteFile(broken, []byte("async def main(:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := parse(broken); err == nil || !strings.Contains(string(out), "SyntaxError") {
		t.Errorf("what is no Python: %v\n%s", err, out)
	}
}
