package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// Build compiles packages of the module at root into the folder out, statically,
// with the flags that `./task build` uses, so that both share the build cache.
func Build(ctx context.Context, root, out string, packages ...string) error {
	return BuildWith(ctx, root, out, nil, packages...)
}

// BuildWith is Build with further flags for the compiler, such as tags.
func BuildWith(ctx context.Context, root, out string, flags []string, packages ...string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the folder of the binaries: %w", err)
	}
	args := slices.Concat([]string{"build", "-o", out + "/"}, flags, packages)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("build certctl: %w:\n%s", err, output)
	}
	return nil
}
