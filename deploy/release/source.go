package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// repository is where the source is, as provenance names it.
const repository = "https://github.com/certctl/certctl"

// source is the commit that is built.
type source struct {
	commit  string
	time    time.Time // of the commit
	changed bool      // the folder holds something else than the commit
}

// currentSource asks git about the folder that this runs in.
func currentSource(ctx context.Context) (source, error) {
	head, err := git(ctx, "log", "-1", "--format=%H %ct")
	if err != nil {
		return source{}, err
	}
	commit, text, _ := strings.Cut(head, " ")
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("git says %q of the commit's time", text)
	}
	status, err := git(ctx, "status", "--porcelain")
	return source{commit, time.Unix(seconds, 0).UTC(), status != ""}, err
}

// name is what programs say of where they come from.
func (s source) name() string {
	if s.changed {
		return s.commit + "-changed"
	}
	return s.commit
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("programs say which commit they are built from, and git does not know: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
