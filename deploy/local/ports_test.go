package local_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

// manyPorts are enough that two choices by chance alone would meet.
const manyPorts = 500

// A daemon may open its port long after it was chosen: an installation's nginx
// does with its first certificate. Another test's daemon once listened there.
func TestFreePortReturnsAPortOnce(t *testing.T) {
	t.Parallel()
	ours := make(map[string]bool)
	for range manyPorts {
		port, err := local.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if name := fmt.Sprint(port); ours[name] {
			t.Fatalf("port %s was chosen twice", name)
		} else {
			ours[name] = true
		}
	}
	command := self(t, "ports")
	cmd := exec.CommandContext(t.Context(), command.Args[0])
	cmd.Env = command.Env
	theirs, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(theirs))); n != manyPorts {
		t.Fatalf("another process chose %d ports", n)
	}
	for _, port := range strings.Fields(string(theirs)) {
		if ours[port] {
			t.Fatalf("another process chose %s too", port)
		}
	}
}

// printPorts is a child that chooses ports.
func printPorts() int {
	for range manyPorts {
		port, err := local.FreePort()
		if err != nil {
			return 1
		}
		fmt.Println(port)
	}
	return 0
}

func TestKeptPortIsChosenOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state", "nginx.port")
	first, err := local.KeptPort(file)
	if err != nil {
		t.Fatal(err)
	}
	// A port that is taken at the moment is kept: its user may be ourselves.
	listener, err := net.Listen("tcp", local.Loopback(first))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	second, err := local.KeptPort(file)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("chose %d, then %d", first, second)
	}
}

func TestKeptPortRefusesADamagedFile(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "0", "https", "65536"} {
		file := filepath.Join(t.TempDir(), "port")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if port, err := local.KeptPort(file); err == nil {
			t.Errorf("%q is read as port %d", content, port)
		}
	}
}
