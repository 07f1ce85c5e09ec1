package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// LongestValidity is that of the longest-lived leaf that an issuer may be asked
// for, by the profiles that there are.
func (s *Store) LongestValidity(ctx context.Context) (time.Duration, error) {
	var longest time.Duration
	err := s.read(ctx, func(t *tx) error {
		var ids []certctl.ID
		if err := t.QueryRow(ctx, `select array(select id from profile where archived_at is null)`).Scan(&ids); err != nil {
			return err
		}
		profiles, err := t.profilesByID(ctx, ids)
		for _, p := range profiles {
			longest = max(longest, time.Duration(p.Validity))
		}
		return err
	})
	return longest, err
}

// ActivateNext has an issuer's next authority sign from now on. The one before
// signs no more leaves; its lists and OCSP live on. It is a Conflict when there
// is no such next authority.
func (s *Store) ActivateNext(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		var owner certctl.ID
		var notAfter time.Time
		if err := t.QueryRow(ctx, `select issuer_id, not_after from authority where id = $1 for update`, id).Scan(&owner, &notAfter); err != nil {
			return orNotFound(err, "authority", id)
		}
		issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, owner.String())
		if err != nil {
			return err
		}
		if err := t.put(ctx, `
			update authority set state = 'retiring' where issuer_id = $1 and state = 'active' and not is_root and id <> $2`, owner, id); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update authority set state = 'active', activate_at = null where id = $1 and state = 'next'`, id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return certctl.Errorf(certctl.Conflict, "this authority is not the issuer's next one")
		}
		t.event(issuer.team, certctl.AggregateIssuer, issuer.id, certctl.EventAuthorityActivated, map[string]any{
			"issuer": issuer.id, "name": issuer.name, "authority": id, "not_after": notAfter,
		})
		return nil
	})
}

// RetireAuthorities retires those of an issuer's retiring authorities whose last
// leaf has ended, and returns how many.
func (s *Store) RetireAuthorities(ctx context.Context, owner certctl.ID) (int, error) {
	retired := 0
	err := s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error {
		issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, owner.String())
		if err != nil {
			return err
		}
		rows, err := t.Query(ctx, `
			update authority a set state = 'retired' where a.issuer_id = $1 and a.state = 'retiring' and not a.is_root
				and not exists (select from version where authority_id = a.id and not_after > now())
				and not exists (select from attempt where authority_id = a.id and outcome = '')
			returning a.id`, owner)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
		for _, id := range ids {
			t.event(issuer.team, certctl.AggregateIssuer, issuer.id, certctl.EventAuthorityRetired, map[string]any{
				"issuer": issuer.id, "name": issuer.name, "authority": id,
			})
		}
		retired = len(ids)
		return err
	})
	return retired, err
}
