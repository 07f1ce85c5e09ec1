package handlers_test

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
)

// Who has stolen the token that all nodes of a fleet read gets the name of none
// that is at work; a node whose pod is gone comes back.
func TestAnAgentOnLineIsNotReplacedByItsFleetsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := hex.EncodeToString(make([]byte, 16))
	_, err := w.CreateJoinToken(w.ctx, w.admin, certctl.JoinToken{Prefix: "0000", UsesLeft: 9, Approve: true, Fleet: "kubernetes",
		ExpiresAt: time.Now().Add(time.Hour)}, certctl.DigestOf([]byte(token)))
	w.must(err)
	enrol := func(n *node) (certctl.ID, error) {
		enrolled, err := w.enrolments.Enroll(w.ctx, handlers.EnrollRequest{
			Enrolment: certctl.Enrolment{Token: token, Name: "node-1", MachineID: n.machine, Keys: n.keys}, Remote: netip.MustParseAddr("127.0.0.1"),
		})
		return enrolled.Agent, err
	}
	own, thief := w.stranger("node-1"), w.stranger("elsewhere")
	id, err := enrol(own)
	w.must(err)
	if _, err := enrol(thief); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("an agent on line was replaced: %v", err)
	}
	if again, err := enrol(own); err != nil || again != id {
		t.Errorf("a lost answer: %v, %v", again, err)
	}
	w.offline = []certctl.ID{id}
	if back, err := enrol(w.stranger("node-1, another pod")); err != nil || back != id {
		t.Errorf("a pod that comes back: %v, %v", back, err)
	}
}
