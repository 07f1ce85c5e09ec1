package chaos

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certctl/certctl/deploy/local"
)

// variant is a way of building server and agent.
type variant string

const (
	withFaults variant = "faults" // they can be told to end at a point
	withClocks variant = "clocks" // their clocks can be moved while they run: see clock.go
)

// build returns a folder with the programs of a variant, which it makes when
// they are needed for the first time.
func (o Options) build(ctx context.Context, v variant) (string, error) {
	if v == "" {
		return o.Binaries, nil
	}
	folder := filepath.Join(o.Dir, "bin-"+string(v))
	flags := []string{"-tags", "faults"}
	if v == withClocks {
		overlay, err := writeClock(ctx, folder)
		if err != nil {
			return "", err
		}
		flags = []string{"-overlay", overlay}
	}
	if err := local.BuildWith(ctx, o.Source, folder, flags, "./cmd/certctl-server", "./cmd/certctl-agent"); err != nil {
		return "", err
	}
	return folder, o.addNATS(folder)
}

// addNATS puts the one nats-server beside other programs.
func (o Options) addNATS(folder string) error {
	err := os.Symlink(local.NATSBinary(o.Binaries), local.NATSBinary(folder))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
