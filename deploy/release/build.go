package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// edition is the package that knows which release a program is.
const edition = "github.com/certctl/certctl/cmd/internal/edition"

// tags are what programs of a release are built with, and others are not: files
// with the tag alldns bring further DNS providers into the server, which take
// minutes to build and are for those who have one of them, not for each test. It
// does no harm where no file has it.
var tags = map[string]string{"certctl-server": "alldns"}

// settings take the place of the builder's own, which would go into what it makes.
// An empty one counts as none, for which Go would look into its own file.
var settings = []string{"GOENV=off", "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0"}

// flags are those of `go build`. Of the repository the program knows what the
// linker is told, so that it does not matter how git was asked, or where.
func (r *release) flags(program string) []string {
	linker := "-s -w -buildid= -X " + edition + ".version=" + r.version + " -X " + edition + ".commit=" + r.source.name()
	return []string{"-trimpath", "-buildvcs=false", "-tags", tags[program], "-ldflags", linker}
}

// build makes a static program.
func (r *release) build(ctx context.Context, program, into string, on platform) error {
	args := append(append([]string{"build"}, r.flags(program)...), "-o", into, "./cmd/"+program)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), settings...), "GOOS="+on.os, "GOARCH="+on.arch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// buildAll makes nothing but the programs, of whatever is in the folder.
func (r *release) buildAll(ctx context.Context) error {
	on := r.targets[0]
	for _, program := range r.programs {
		if err := r.build(ctx, program, filepath.Join(r.out, program+on.suffix()), on); err != nil {
			return fmt.Errorf("%s for %s/%s: %w", program, on.os, on.arch, err)
		}
	}
	return nil
}
