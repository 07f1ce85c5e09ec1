package target_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// counting is a policy that counts the checks that it is asked for.
type counting struct {
	anything
	checks atomic.Int64
}

func (c *counting) AllowCommand([]string) error {
	c.checks.Add(1)
	return nil
}

// blocks is how many server blocks the nginx of these tests has.
func blocks() int {
	if os.Getenv("CERTCTL_TEST_ALL") != "" {
		return 1000
	}
	return 50
}

// A full rotation of one nginx takes one check and one reload. One certificate that
// nginx refuses is found by halving, and fails alone.
func TestManyServerBlocksAreOneBatch(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	n := blocks()
	var next []func() target.Install
	for i := range n {
		next = append(next, targettest.Installs(t, fmt.Sprintf("p%d", i), fmt.Sprintf("p%d.example.com", i)))
	}
	policy := &counting{}
	apply := func() (receipts []certctl.Receipt, checks int64, reloads int) {
		t.Helper()
		opened, err := target.Kinds().Open(d.Spec, target.Env{Policy: policy, Now: time.Now, StateDir: t.TempDir()})
		must(t, err)
		var batch []target.Install
		for _, one := range next {
			batch = append(batch, one())
		}
		checked, reloaded := policy.checks.Load(), nginxReloads(t, d)
		receipts = opened.Apply(t.Context(), batch)
		return receipts, policy.checks.Load() - checked, nginxReloads(t, d) - reloaded
	}
	for _, when := range []string{"the first certificates", "the rotation"} {
		receipts, checks, reloads := apply()
		for i, r := range receipts {
			if r.Outcome != certctl.OutcomeVerified {
				t.Fatalf("%s: %d: %+v", when, i, r)
			}
		}
		// A reload that takes its time is asked for again, twice at most.
		if checks != 1 || reloads == 0 || reloads > 3 {
			t.Errorf("%s: %d checks and %d reloads of %d server blocks", when, checks, reloads, n)
		}
	}
	culprit := fmt.Sprintf("p%d", n/3)
	withSettings(t, d, func(settings map[string]any) {
		settings["server_block"] = strings.Replace(settings["server_block"].(string), "location", //nolint:forcetypeassert // our own
			fmt.Sprintf("{{if eq .Place %q}}no_such_directive;{{end}} location", culprit), 1)
	})
	receipts, checks, reloads := apply()
	for i, r := range receipts {
		if want := i != n/3; (r.Outcome == certctl.OutcomeVerified) != want || !want && (r.Outcome != certctl.OutcomeRolledBack || r.Code != "check_refused") {
			t.Errorf("%d: %+v", i, r)
		}
	}
	depth := 1 // halvings until one is alone
	for size := n; size > 1; size = (size + 1) / 2 {
		depth++
	}
	if checks > int64(2*depth) || reloads > 3*depth {
		t.Errorf("one culprit among %d took %d checks and %d reloads", n, checks, reloads)
	}
	t.Logf("one culprit among %d: %d checks, %d reloads", n, checks, reloads)
}

// nginxReloads is how often a test's nginx has read its configuration again.
func nginxReloads(t *testing.T, d *targettest.Daemon) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(filepath.Dir(d.Directory), "nginx.log"))
	must(t, err)
	return bytes.Count(log, []byte("(SIGHUP) received"))
}
