package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// packed are the programs that have packages; each has a description in
// deploy/packages, which names the program as it lies below bin/.
var packed = []string{"certctl-server", "certctl-agent", "certctl-proxy", "certctl"}

// nfpm is what makes packages; ./task builds it.
const nfpm = ".task/nfpm"

// packages makes the Debian and RPM packages of whatever is in the folder.
func (r *release) packages(ctx context.Context) error {
	tool, err := filepath.Abs(nfpm)
	if err != nil {
		return err
	}
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	for _, on := range r.targets {
		for _, program := range r.programs {
			if err := r.build(ctx, program, filepath.Join("bin", on.os+"-"+on.arch, program), on); err != nil {
				return fmt.Errorf("%s for %s/%s: %w", program, on.os, on.arch, err)
			}
			for _, packager := range []string{"deb", "rpm"} {
				cmd := exec.CommandContext(ctx, tool, "package", "-f", "deploy/packages/"+program+".yaml", "-p", packager, "-t", r.out)
				// The time of everything in a package is the commit's.
				cmd.Env = append(os.Environ(), "ARCH="+on.arch, "VERSION="+r.version, "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.source.time.Unix(), 10))
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("the %s package of %s for %s: %w\n%s", packager, program, on.arch, err, out)
				}
			}
		}
	}
	return nil
}
