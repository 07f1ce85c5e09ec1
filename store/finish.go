package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// finishing is an attempt that has ended, with the order that it was for.
type finishing struct {
	end      certctl.AttemptEnd
	leaf     certctl.Leaf // of a success
	version  certctl.ID   // of a success, as it will be stored
	current  bool         // the attempt is still the order's newest, and nobody has taken over
	order    certctl.Order
	team     string
	name     string     // of the certificate
	revision int64      // of the certificate
	replaces certctl.ID // the holder's version so far
	ended    bool       // the holder has ended
	policy   certctl.ID // the certificate's renewal policy
	system   bool       // a certificate of the platform's own
	external bool       // something may be under way at a CA that is not ours
}

// FinishIssue records how attempts have ended, in one transaction; the i-th
// result is for the i-th end.
//
// A leaf becomes its holder's newest version, is sent to the holder's bindings,
// and says when the holder is due again. One that comes too late, because the
// order was cancelled or another worker has taken over, is kept as an orphan:
// it exists, and can be revoked. An error lets the order wait until RetryAt, or
// ends it; errors of attempts that are not current change nothing. An attempt that
// is paused goes on, and belongs to nobody until RetryAt.
func (s *Store) FinishIssue(ctx context.Context, ends []certctl.AttemptEnd) ([]certctl.FinishResult, error) {
	leaves := make([]certctl.Leaf, len(ends))
	for i, end := range ends {
		if end.Err == nil && !end.Paused() {
			var err error
			if leaves[i], err = certctl.ParseLeaf(end.Leaf); err != nil {
				return nil, err
			}
		}
	}
	results := make([]certctl.FinishResult, len(ends))
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		all, err := t.finishings(ctx, ends)
		if err != nil {
			return err
		}
		var issued, orphans, failures, paused []*finishing
		for i, f := range all {
			f.leaf, f.version = leaves[i], certctl.NewID(t.now).WithOrder(i)
			results[i] = certctl.FinishResult{Order: f.end.Order, Stale: !f.current}
			switch {
			case f.end.Paused() && f.current:
				paused = append(paused, f)
			case f.end.Paused():
			case f.end.Err != nil && f.current:
				failures = append(failures, f)
			case f.end.Err != nil:
			case f.current:
				issued, results[i].Version = append(issued, f), f.version
			default:
				orphans, results[i].Version = append(orphans, f), f.version
			}
		}
		if err := t.storeVersions(ctx, issued, orphans); err != nil {
			return err
		}
		if err := t.closeIssued(ctx, issued); err != nil {
			return err
		}
		if err := t.closeFailed(ctx, failures); err != nil {
			return err
		}
		if err := t.pauseAttempts(ctx, paused); err != nil {
			return err
		}
		if err := t.judgeIssuers(ctx, all); err != nil {
			return err
		}
		return t.refreshStatus(ctx, certificatesOfEnds(all)...)
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func certificatesOfEnds(all []*finishing) []certctl.ID {
	set := make(map[certctl.ID]bool, len(all))
	for _, f := range all {
		if !f.order.Certificate.IsZero() {
			set[f.order.Certificate] = true
		}
	}
	return keysOf(set)
}

// finishings locks the certificates and orders of the ends, and tells which of
// them are current. The result has the ends' order.
func (t *tx) finishings(ctx context.Context, ends []certctl.AttemptEnd) ([]*finishing, error) {
	ids := make([]certctl.ID, len(ends))
	all, byOrder := make([]*finishing, len(ends)), make(map[certctl.ID]*finishing, len(ends))
	for i, end := range ends {
		ids[i], all[i] = end.Order, &finishing{end: end}
		byOrder[end.Order] = all[i]
	}
	if len(byOrder) != len(ends) {
		return nil, certctl.Errorf(certctl.Internal, "one batch of ends names an order twice")
	}
	if err := t.lockCertificatesOf(ctx, `select certificate_id from cert_order where id = any($1)`, ids); err != nil {
		return nil, err
	}
	if err := t.lockOrders(ctx, ids); err != nil {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select o.id, o.certificate_id, o.holder_id, o.revision, o.state, o.attempts, o.issuer_id, coalesce(a.worker, ''), coalesce(a.outcome, 'gone'),
			team.name, c.name, c.revision, c.policy_id, c.purpose = 'system', h.version_id, h.ended_at is not null, h.kind,
			exists (select from external_order x where x.order_id = o.id and x.abandoned_at is null)
		from cert_order o left join attempt a on a.order_id = o.id and a.n = o.attempts
		join certificate c on c.id = o.certificate_id join team on team.id = c.team_id join holder h on h.id = o.holder_id
		where o.id = any($1) order by o.id`, ids)
	if err != nil {
		return nil, err
	}
	var f finishing
	var worker string
	var outcome certctl.AttemptOutcome
	o := &f.order
	_, err = pgx.ForEachRow(rows, []any{&o.ID, &o.Certificate, &o.Holder, &o.Revision, &o.State, &o.Attempts, &o.Issuer, &worker, &outcome,
		&f.team, &f.name, &f.revision, &f.policy, &f.system, &f.replaces, &f.ended, &o.HolderKind, &f.external}, func() error {
		known := byOrder[o.ID]
		f.end = known.end
		f.current = o.State == certctl.OrderProcessing && o.Attempts == f.end.N && worker == f.end.Worker && outcome == certctl.AttemptRunning
		*known = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.order.ID.IsZero() {
			return nil, notFound("order", f.end.Order.String())
		}
	}
	return all, nil
}

// storeVersions stores leaves that were issued, or came too late.
func (t *tx) storeVersions(ctx context.Context, issued, orphans []*finishing) error {
	n := len(issued) + len(orphans)
	if n == 0 {
		return nil
	}
	ids, certificates, holders, orders := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	issuers, authorities, replaces := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	attempts, revisions, serials, algorithms, origins := make([]int32, n), make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	prints, spkis, leaves, digests := make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	from, until, renew, chains := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n), make([]certctl.Chain, n)
	for i, f := range append(issued[:len(issued):len(issued)], orphans...) {
		ids[i], certificates[i], holders[i], orders[i] = f.version, f.order.Certificate, f.order.Holder, f.order.ID
		issuers[i], authorities[i], attempts[i], revisions[i] = f.order.Issuer, f.end.Authority, int32(f.end.N), f.order.Revision //nolint:gosec // a counter
		serials[i], algorithms[i], origins[i] = string(f.leaf.Serial), string(f.leaf.Algorithm), string(certctl.VersionOrphan)
		digest := f.end.Chain.Digest()
		prints[i], spkis[i], leaves[i], digests[i] = f.leaf.Fingerprint[:], f.leaf.SPKI[:], f.end.Leaf, digest[:]
		from[i], until[i], chains[i] = f.leaf.NotBefore, f.leaf.NotAfter, f.end.Chain
		if i < len(issued) {
			origins[i], replaces[i], renew[i] = string(certctl.VersionIssued), f.replaces, f.end.RenewAt
		}
	}
	if err := t.storeChains(ctx, chains...); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		insert into version (id, certificate_id, holder_id, order_id, attempt, issuer_id, authority_id, revision, serial, fingerprint, spki,
			algorithm, not_before, not_after, leaf, chain_digest, origin, replaces, renew_at)
		select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::uuid[], $7::uuid[], $8::bigint[], $9::text[],
			$10::bytea[], $11::bytea[], $12::text[], $13::timestamptz[], $14::timestamptz[], $15::bytea[], $16::bytea[], $17::text[],
			$18::uuid[], $19::timestamptz[])
		on conflict (fingerprint) do nothing returning id`,
		ids, certificates, holders, orders, attempts, issuers, authorities, revisions, serials, prints, spkis,
		algorithms, from, until, leaves, digests, origins, replaces, renew)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	if err != nil {
		return err
	}
	return t.checkStored(ctx, stored, issued, orphans)
}

// checkStored holds what was stored against what was to be. A leaf that is
// stored already came twice: an orphan is then left as it is, while an issuer
// that answers two orders with one leaf has failed.
func (t *tx) checkStored(ctx context.Context, stored []certctl.ID, issued, orphans []*finishing) error {
	known := make(map[certctl.ID]bool, len(stored))
	for _, id := range stored {
		known[id] = true
	}
	for _, f := range issued {
		if !known[f.version] {
			return certctl.Errorf(certctl.Conflict, "the issuer's leaf for order %s is one that is stored already", f.order.ID)
		}
	}
	var late []*finishing
	for _, f := range orphans {
		if known[f.version] {
			late = append(late, f)
		}
	}
	return t.tellOrphans(ctx, late)
}

// tellOrphans announces leaves that came too late, and revokes those whose key
// was compromised meanwhile.
func (t *tx) tellOrphans(ctx context.Context, orphans []*finishing) error {
	if len(orphans) == 0 {
		return nil
	}
	ids, spkis := make([]certctl.ID, len(orphans)), make([]certctl.Digest, len(orphans))
	for i, f := range orphans {
		ids[i], spkis[i] = f.version, f.leaf.SPKI
		t.eventOutcome(f.team, certctl.AggregateCertificate, f.order.Certificate, certctl.EventVersionOrphaned, certctl.OutcomeFailure, issuedData(f))
	}
	var blocked []certctl.Digest
	if err := t.QueryRow(ctx, `select array(select spki from blocked_key where spki = any($1))`, spkis).Scan(&blocked); err != nil || len(blocked) == 0 {
		return err
	}
	c := &conditions{}
	c.add("v.id = any(?)", ids)
	c.add("v.spki = any(?)", blocked)
	tainted, err := t.revocables(ctx, c)
	if err != nil {
		return err
	}
	_, err = t.revokeAs(ctx, tainted, certctl.ReasonKeyCompromise, certctl.ReplaceAfter)
	return err
}

// issuedData is what events say of a leaf.
func issuedData(f *finishing) map[string]any {
	return map[string]any{
		"certificate": f.order.Certificate, "name": f.name, "order": f.order.ID, "holder": f.order.Holder,
		"holder_kind": f.order.HolderKind, "version": f.version, "serial": f.leaf.Serial,
		"fingerprint": f.leaf.Fingerprint, "not_after": f.leaf.NotAfter, "issuer": f.order.Issuer,
		"authority": f.end.Authority, "spki": f.leaf.SPKI,
	}
}
