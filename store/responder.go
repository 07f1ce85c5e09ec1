package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// SaveResponder stores an authority's OCSP responder in the place of the one
// before, unless that one lives longer: another signer was faster.
func (s *Store) SaveResponder(ctx context.Context, r certctl.Responder) error {
	_, err := s.pool.Exec(ctx, `
		insert into responder as old (authority_id, certificate, sealed_key, not_before, not_after) values ($1, $2, $3, $4, $5)
		on conflict (authority_id) do update set certificate = excluded.certificate, sealed_key = excluded.sealed_key,
			not_before = excluded.not_before, not_after = excluded.not_after, updated_at = now()
		where old.not_after <= excluded.not_after`,
		r.Authority, r.Certificate, r.SealedKey, r.NotBefore, r.NotAfter)
	return failed(err, "the responder could not be stored")
}

// GetResponder returns an authority's OCSP responder; NotFound before the first.
func (s *Store) GetResponder(ctx context.Context, authority certctl.ID) (certctl.Responder, error) {
	r := certctl.Responder{Authority: authority}
	err := s.pool.QueryRow(ctx, `
		select certificate, sealed_key, not_before, not_after from responder where authority_id = $1`, authority).
		Scan(&r.Certificate, &r.SealedKey, &r.NotBefore, &r.NotAfter)
	return r, failed(orNotFound(err, "responder of authority", authority), "the responder could not be read")
}

// statusCall asks for serial numbers of an authority.
type statusCall struct {
	authority certctl.ID
	serials   []certctl.Serial
	known     map[certctl.Serial]certctl.SerialStatus
	at        time.Time
	err       error
}

func ofOneAuthority(a, b *statusCall) bool { return a.authority == b.authority }

// SerialStatuses returns what is known of serial numbers of an authority, and
// the moment at which it was so. Those that it never issued are absent; there may be
// some that were not asked for.
func (s *Store) SerialStatuses(ctx context.Context, authority certctl.ID, serials []certctl.Serial) (map[certctl.Serial]certctl.SerialStatus, time.Time, error) {
	call := &statusCall{authority: authority, serials: serials}
	s.statuses.do(ctx, call, ofOneAuthority, s.serialStatuses)
	return call.known, call.at, call.err
}

// serialStatuses reads for all calls at once; they share what it finds.
func (s *Store) serialStatuses(ctx context.Context, calls []*statusCall) {
	var serials []certctl.Serial
	for _, call := range calls {
		serials = append(serials, call.serials...)
	}
	known := make(map[certctl.Serial]certctl.SerialStatus, len(serials))
	var now time.Time
	// The first row says when: there is one also when nothing is known.
	rows, err := s.pool.Query(ctx, `
		select now(), serial, revoked_at, revocation from (
			select '' as serial, null::timestamptz as revoked_at, '' as revocation
			union all select serial, revoked_at, revocation from version where serial = any($2) and authority_id = $1
			union all select serial, revoked_at, revocation from version_stub where serial = any($2) and authority_id = $1) v
		order by revoked_at nulls first`, calls[0].authority, serials)
	if err == nil {
		var serial certctl.Serial
		var at *time.Time
		var reason certctl.RevocationReason
		_, err = pgx.ForEachRow(rows, []any{&now, &serial, &at, &reason}, func() error {
			if serial == "" {
				return nil
			}
			// A late signature on what was signed before gives two versions of one
			// serial number: the revoked one comes last.
			status := certctl.SerialStatus{Known: true, Reason: reason}
			if at != nil {
				status.RevokedAt = *at
			}
			known[serial] = status
			return nil
		})
	}
	for _, call := range calls {
		call.known, call.at, call.err = known, now.UTC(), failed(err, "the statuses could not be read")
	}
}
