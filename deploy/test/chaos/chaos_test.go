package chaos_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/deploy/test/chaos"
)

// The short form of `./task chaos`: a minute or two of the worst.
func TestShortChaos(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "certctl-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user passes through
		t.Fatal(err)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	binaries := filepath.Join(dir, "bin")
	if err := local.Build(t.Context(), root, binaries, "./cmd/...", local.NATSPackage); err != nil {
		t.Fatal(err)
	}
	report, err := chaos.Run(t.Context(), chaos.Options{
		Source: root, Binaries: binaries, Dir: dir, Seed: uint64(time.Now().UnixNano()), Short: true, Log: t.Output(), //nolint:gosec // any number
	})
	report.Print(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() || report.Submissions == 0 || report.Faults == 0 {
		t.Error("a promise was broken; the states are in " + dir)
	}
}
