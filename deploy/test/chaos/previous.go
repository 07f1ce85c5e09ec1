package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/certctl/certctl/deploy/local"
)

// Previous is the commit that stands for the previous release until there is one:
// the last before the schema changed for the first time.
const Previous = "3777a2d"

// buildPrevious builds the programs of the previous release from the history of
// the repository, and returns their folder.
func (o Options) buildPrevious(ctx context.Context) (string, error) {
	commit := o.Previous
	if commit == "" {
		commit = Previous
	}
	source, folder := filepath.Join(o.Dir, "source-previous"), filepath.Join(o.Dir, "bin-previous")
	if err := os.MkdirAll(source, 0o755); err != nil { //nolint:gosec // programs
		return "", err
	}
	archive := exec.CommandContext(ctx, "git", "-C", o.Source, "archive", "--format=tar", commit)
	var tar, complaint bytes.Buffer
	archive.Stdout, archive.Stderr = &tar, &complaint
	if err := archive.Run(); err != nil {
		return "", fmt.Errorf("the previous release, commit %s, is not in this repository's history (%w: %s): fetch it (git fetch --unshallow), or name another with --previous",
			commit, err, bytes.TrimSpace(complaint.Bytes()))
	}
	extract := exec.CommandContext(ctx, "tar", "-x", "-C", source)
	extract.Stdin = &tar
	if output, err := extract.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack the previous release: %w: %s", err, output)
	}
	if err := local.Build(ctx, source, folder, "./cmd/certctl-server", "./cmd/certctl-agent"); err != nil {
		return "", fmt.Errorf("the previous release: %w", err)
	}
	return folder, errors.Join(o.addNATS(folder), os.RemoveAll(source))
}
