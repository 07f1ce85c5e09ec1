package handlers_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// The active authority is opened once, and anew as soon as one of its issuer's rows
// has changed: a key that was taken away is not used any more.
func TestAuthoritiesStayOpenUntilTheyChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	active := func() (*ca.Authority, error) { return w.authorities.Active(w.ctx, w.issuer.ID, ca.Options{}) }
	made, err := active()
	w.must(err)
	first, err := active()
	w.must(err)
	again, err := active()
	w.must(err)
	if first != again || first.ID != made.ID {
		t.Error("it is opened with each hint")
	}
	w.sql(`update authority set shards = 64 where not is_root`)
	changed, err := active()
	w.must(err)
	if changed == first || changed.Shards != 64 {
		t.Errorf("of a changed row: the one of before, with %d shards", changed.Shards)
	}
	w.sql(`update authority set sealed_key = '\x00' where not is_root`)
	for range 2 {
		if authority, err := active(); err == nil {
			t.Errorf("without its key %s signs", authority.ID)
		}
	}
	w.sql(`update authority set sealed_key = null where not is_root`)
	if _, err := active(); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("without a key: %v", err)
	}
}

// A key that nobody has signed with for a while is closed when another issuer's is
// asked for; one that is used stays open.
func TestAuthoritiesThatNobodyUsesAreClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	w.authorities.Clock = func() time.Time { return now }
	other, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "other", Kind: certctl.IssuerLocal})
	w.must(err)
	active := func(issuer certctl.ID) *ca.Authority {
		t.Helper()
		authority, err := w.authorities.Active(w.ctx, issuer, ca.Options{})
		w.must(err)
		return authority
	}
	active(w.issuer.ID) // makes it
	active(other.ID)
	idle, used := active(w.issuer.ID), active(other.ID)
	for range 3 {
		now = now.Add(4 * time.Minute)
		if active(other.ID) != used {
			t.Error("one that is used was closed")
		}
	}
	if active(w.issuer.ID) == idle {
		t.Error("one that nobody used is still open")
	}
}
