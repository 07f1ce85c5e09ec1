package handlers_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// A node obeys no command that has ended by its own clock, so that commands for
// one whose clock is ahead end later; one whose clock is behind gains nothing.
func TestCommandsEndByTheClockOfTheirNode(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{5 * time.Hour, 0, -5 * time.Hour} {
		w := newWorld(t)
		n := w.newNode("web1")
		n.target("one")
		w.submit("shop", "one")
		n.ahead = ahead
		var key certctl.KeyCommand
		n.command(certctl.CommandMakeKey, &key)
		left := time.Until(key.NotAfter) - max(ahead, 0)
		if left < 50*time.Minute || left > 70*time.Minute {
			t.Errorf("a clock %s ahead: the command ends %s", ahead, key.NotAfter)
		}
	}
}
