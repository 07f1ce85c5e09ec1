package node

import (
	"context"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
)

// Every message that can end the program has an exit code of its own.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{&agent.StoppedError{Reason: "x"}, ExitStopped},
		{certctl.Errorf(certctl.Gone, "x"), ExitRetired},
		{certctl.Errorf(certctl.Invalid, "x"), ExitUsage},
		{certctl.Errorf(certctl.Conflict, "x"), ExitError},
		{context.Canceled, ExitError},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
