package rest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// What was set aside is shown with its reason and its message, and leaves the
// list when a person has it tried again or discards it.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "mail", "issuer": "local", "csr": csr(t, "mail.example.com")}).want(http.StatusCreated)
	var orders struct {
		Items []struct {
			ID   certctl.ID `json:"id"`
			Wait string     `json:"wait"`
		} `json:"items"`
	}
	order := func() string {
		orders.Items = nil
		w.as(http.MethodGet, "/api/v1/orders?certificate=mail", nil).want(http.StatusOK).into(&orders)
		return orders.Items[0].Wait
	}
	order()
	letters := []certctl.DeadLetter{
		{ID: certctl.NewID(time.Now()), Verb: certctl.HintIssue, Lane: "lane", IDs: []certctl.ID{orders.Items[0].ID}, Reason: "it panicked", Message: []byte(`{"ids":[]}`)},
		{ID: certctl.NewID(time.Now().Add(time.Second)), Verb: certctl.HintRenew, Lane: certctl.NoLane, Reason: "cannot be read", Message: []byte{'x', 0xff, 'y'}},
	}
	for _, letter := range letters {
		w.must(w.RecordDeadLetter(t.Context(), letter))
	}
	type shown struct {
		ID      certctl.ID `json:"id"`
		Verb    string     `json:"verb"`
		Reason  string     `json:"reason"`
		Message string     `json:"message"`
	}
	list := func() (items []shown) {
		var page struct {
			Items []shown `json:"items"`
		}
		w.as(http.MethodGet, "/api/v1/dead-letters", nil).want(http.StatusOK).into(&page)
		return page.Items
	}
	got := list()
	if len(got) != 2 || got[1] != (shown{letters[0].ID, "issue", "it panicked", `{"ids":[]}`}) || got[0].Message != "x\uFFFDy" {
		t.Fatalf("letters %+v", got)
	}
	if wait := order(); wait != "parked" {
		t.Errorf("the order waits for %q", wait)
	}
	viewer := w.member("viewer", "", "viewer")
	first, second := "/api/v1/dead-letters/"+letters[0].ID.String(), "/api/v1/dead-letters/"+letters[1].ID.String()
	w.do(http.MethodPost, first+"/replay", viewer, nil).want(http.StatusForbidden)
	w.do(http.MethodDelete, first, viewer, nil).want(http.StatusForbidden)
	w.as(http.MethodPost, first+"/replay", nil).want(http.StatusNoContent)
	if wait := order(); wait != "" {
		t.Errorf("after the replay the order waits for %q", wait)
	}
	w.as(http.MethodDelete, second, nil).want(http.StatusNoContent)
	if left := list(); len(left) != 0 {
		t.Errorf("still there: %+v", left)
	}
	w.as(http.MethodDelete, second, nil).want(http.StatusNotFound)
	for name, want := range map[string]int{"dead_lettered": 2, "dead_letter_replayed": 1, "dead_letter_discarded": 1} {
		if n := w.count(`select count(*) from event where name = $1`, name); n != want {
			t.Errorf("%d events %s", n, name)
		}
	}
}
