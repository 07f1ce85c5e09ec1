package store_test

import (
	"testing"
)

// A process that stops in the middle of a transaction does not keep its locks:
// the scenario "paused" of the fault suite stops one.
func TestTransactionsDoNotWaitForStoppedProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.text(`show idle_in_transaction_session_timeout`); got != "10s" {
		t.Errorf("a transaction may wait for its process for %s", got)
	}
}
