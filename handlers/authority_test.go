package handlers_test

import (
	"testing"

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
