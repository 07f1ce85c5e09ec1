package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestRolloverDue(t *testing.T) {
	t.Parallel()
	end := epoch.Add(1825 * certctl.Day)
	for left, want := range map[int]bool{1825: false, 181: false, 179: true, -1: true} {
		if got := certctl.RolloverDue(epoch, end, 90*certctl.Day, end.Add(-certctl.Day*time.Duration(left))); got != want {
			t.Errorf("with %d days left: %v", left, got)
		}
	}
	short := epoch.Add(30 * certctl.Day) // shorter than two leaves: no succession without end
	for left, want := range map[int]bool{30: false, 16: false, 14: true} {
		if got := certctl.RolloverDue(epoch, short, 90*certctl.Day, short.Add(-certctl.Day*time.Duration(left))); got != want {
			t.Errorf("of a short one with %d days left: %v", left, got)
		}
	}
}
