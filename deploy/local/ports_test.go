package local_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

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
