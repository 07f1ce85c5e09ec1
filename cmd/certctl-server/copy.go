package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
)

// copyCommand puts this program where a container of another image finds it: our
// image has no cp, and pg_dump is in the database's.
type copyCommand struct {
	Dir string `arg:"" help:"Folder." type:"existingdir"`
}

// copySelf writes this program into a folder under its own name.
func copySelf(command copyCommand) (err error) {
	self, err := os.Executable()
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "this program does not know where it is")
	}
	from, err := os.Open(self)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "this program cannot be read")
	}
	defer from.Close()
	path := filepath.Join(command.Dir, "certctl-server")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) //nolint:gosec // a program
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the program cannot be written to %s", path)
	}
	defer func() {
		if closing := to.Close(); err == nil && closing != nil {
			err = certctl.Wrap(certctl.Unavailable, closing, "the program cannot be written to %s", path)
		}
	}()
	if _, err := io.Copy(to, from); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the program cannot be written to %s", path)
	}
	return nil
}
