package handlers_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
)

// states are the issuing authorities of the local issuer, oldest first.
func (w *world) states() (states []certctl.AuthorityState, ids []certctl.ID) {
	w.t.Helper()
	all, err := w.Authorities(w.ctx, w.issuer.ID)
	w.must(err)
	for _, a := range all {
		if !handlers.IsRoot(a) {
			states, ids = append(states, a.State), append(ids, a.ID)
		}
	}
	return states, ids
}

func (w *world) sql(statement string, args ...any) {
	w.t.Helper()
	_, err := w.Pool().Exec(w.ctx, statement, args...)
	w.must(err)
}

// leaf issues a certificate on a node.
func (w *world) leaf(n *node, name string) certctl.Version {
	w.t.Helper()
	n.target(name)
	c := w.submit(name, name)
	w.issues(n.answersCSR().Order)
	v := w.versions(c)[0]
	w.verifies(v, name+".example.com")
	return v
}

// An authority whose time runs out is followed by another one: published first,
// signing after the overlap, while the one before keeps its lists and OCSP until
// its last leaf has ended.
func TestAnAuthorityIsReplacedWithOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.newNode("web1")
	old := w.leaf(n, "old")
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	rollovers := handlers.NewRollovers(w.authorities, w.Store, lists)
	look := func(want ...certctl.AuthorityState) []certctl.ID {
		t.Helper()
		for range 2 { // each replica looks
			w.must(rollovers.Look(w.ctx, w.issuer.ID, ca.Options{}))
		}
		got, ids := w.states()
		if len(got) != len(want) {
			t.Fatalf("authorities %v, want %v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("authorities %v, want %v", got, want)
			}
		}
		return ids
	}
	look(certctl.AuthorityActive)
	w.sql(`update authority set not_before = now() - interval '5 years', not_after = now() + interval '170 days' where not is_root`) // two leaves of 90 days do not fit
	ids := look(certctl.AuthorityActive, certctl.AuthorityNext)
	if _, err := w.GetCRL(w.ctx, ids[1], certctl.CompleteCRL); err != nil {
		t.Errorf("the next authority's list is not published: %v", err)
	}
	if v := w.leaf(n, "during"); v.Authority != ids[0] {
		t.Error("the next authority signs before its time")
	}
	w.sql(`update authority set activate_at = now() where state = 'next'`)
	look(certctl.AuthorityRetiring, certctl.AuthorityActive)
	if v := w.leaf(n, "new"); v.Authority != ids[1] {
		t.Error("the old authority signs on")
	}
	w.verifies(old, "old.example.com")

	_, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: old.ID, Reason: certctl.ReasonSuperseded, Replace: certctl.ReplaceNo})
	w.must(err)
	w.must(lists.Handle(w.ctx, certctl.Hint{IDs: ids}))
	for _, shard := range []int{certctl.CompleteCRL, ca.Shard(old.Serial, 128)} {
		list, err := w.GetCRL(w.ctx, ids[0], shard)
		w.must(err)
		parsed, err := x509.ParseRevocationList(list.DER)
		w.must(err)
		stored, err := w.AuthorityByID(w.ctx, ids[0])
		w.must(err)
		retiring, err := x509.ParseCertificate(stored.Certificate)
		w.must(err)
		if len(parsed.RevokedCertificateEntries) != 1 || parsed.CheckSignatureFrom(retiring) != nil {
			t.Errorf("list %d: %d entries, %v", shard, len(parsed.RevokedCertificateEntries), parsed.CheckSignatureFrom(retiring))
		}
	}
	w.sql(`update version set not_after = now() - interval '1 second' where id = $1`, old.ID)
	look(certctl.AuthorityRetiring, certctl.AuthorityActive) // "during" is still out
	w.sql(`update version set not_after = now() - interval '1 second' where authority_id = $1`, ids[0])
	look(certctl.AuthorityRetired, certctl.AuthorityActive)
}

// An operator may have it earlier, and may not have it twice.
func TestARolloverByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lists := handlers.NewLists(w.Store, w.authorities, w.pki, testLog(t))
	rollovers := handlers.NewRollovers(w.authorities, w.Store, lists)
	if _, err := rollovers.Order(w.ctx, w.issuer.ID, ca.Options{}, time.Hour); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("of an issuer without an authority: %v", err)
	}
	_, err := w.authorities.Active(w.ctx, w.issuer.ID, ca.Options{})
	w.must(err)
	next, err := rollovers.Order(w.ctx, w.issuer.ID, ca.Options{}, time.Hour)
	if err != nil || next.State != certctl.AuthorityNext || next.ActivateAt.Sub(w.now()) > time.Hour {
		t.Fatalf("next %+v, %v", next, err)
	}
	if _, err := rollovers.Order(w.ctx, w.issuer.ID, ca.Options{}, time.Hour); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("ordered twice: %v", err)
	}
	again, err := rollovers.Order(w.ctx, w.issuer.ID, ca.Options{}, 0)
	if err != nil || again.ID != next.ID {
		t.Fatalf("at once: %+v, %v", again, err)
	}
	active, err := w.authorities.Active(w.ctx, w.issuer.ID, ca.Options{})
	if err != nil || active.ID != next.ID {
		t.Errorf("active %+v, %v", active, err)
	}
	w.sql(`update authority set parent_id = null where state = 'active' and not is_root`)
	if _, err := rollovers.Order(w.ctx, w.issuer.ID, ca.Options{}, 0); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("of an authority that another CA signed: %v", err)
	}
}
