package target

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl/certctl"
)

// A process is signalled when it is the program that it should be, however long
// that one's name is, and left alone when its id is somebody else's now.
func TestOnlyTheProgramItselfIsSignalled(t *testing.T) {
	t.Parallel()
	source, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		expected string
		signal   bool
	}{
		"a-daemon-with-a-long-name": {"a-daemon-with-a-long-name", true},
		"short":                     {"short", true},
		"another":                   {"postgres", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			// Not written by this process: a child of another test would hold it open.
			if said, err := exec.Command("cp", source, path).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			cmd := exec.Command(path)
			input, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(input, "."); err != nil { // it runs, and not the shell of the test before exec
				t.Fatal(err)
			}
			if _, err := io.ReadFull(output, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			pidFile := filepath.Join(dir, "pid")
			if err := os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)+"\nmore\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			err = signalProcess(pidFile, c.expected, syscall.SIGTERM)
			if c.signal != (err == nil) || err != nil && (certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(err.Error(), "is another and not postgres")) {
				t.Errorf("error %v", err)
			}
			_ = input.Close()
			err = cmd.Wait()
			var exit *exec.ExitError
			if errors.As(err, &exit) != c.signal {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}
