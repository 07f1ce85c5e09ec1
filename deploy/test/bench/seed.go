package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// seedChunk is how many rows one statement fills in.
const seedChunk = 100_000

// seeded says which rows a table is filled with. Certificates are numbered from 1;
// the first due of them are due for renewal, and the rest in a month.
type seeded struct {
	from, to int // numbers of the certificates; from 0: from 1
	due      int
	// next are requests that agents have handed over, of the due ones.
	next [][]byte
	// revoked marks every version as revoked.
	revoked bool
	// unread adds so many events that are not on the bus yet.
	unread int
}

// The n-th certificate, holder and version have ids that differ in one digit.
const seedID = `('0190%s00-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid`

var (
	seedCertificate = fmt.Sprintf(seedID, "00")
	seedHolder      = fmt.Sprintf(seedID, "01")
	seedVersion     = fmt.Sprintf(seedID, "02")
	seedEvent       = fmt.Sprintf(seedID, "03")
)

// seed fills the tables with certificates as issuing would have left them, each
// with a holder, a version and the rows that say when it is due again. Leaves are
// bytes of the usual length.
func (s *stand) seed(ctx context.Context, o seeded) error {
	began := time.Now()
	for at := max(o.from, 1); at <= o.to; at += seedChunk {
		if err := s.seedSome(ctx, o, at, min(at+seedChunk-1, o.to)); err != nil {
			return err
		}
	}
	if err := s.seedNext(ctx, o.next); err != nil {
		return err
	}
	for at := 1; at <= o.unread; at += seedChunk {
		if err := s.seedEvents(ctx, at, min(at+seedChunk-1, o.unread)); err != nil {
			return err
		}
	}
	_, err := s.store.Pool().Exec(ctx, `analyze`)
	fmt.Fprintf(os.Stderr, "%d certificates are filled in after %s\n", o.to, short(time.Since(began)))
	return err
}

func (s *stand) seedSome(ctx context.Context, o seeded, from, to int) error {
	for _, statement := range []string{
		`insert into certificate (id, team_id, name, dns, issuers, profile_id, policy_id, key_mode, sharing, owner, labels, status, not_after)
		select ` + seedCertificate + `, t.id, 'seed-' || g, array['seed-' || g || '.bench.localhost'], array[i.id], p.id, r.id, 'agent', 'per_agent',
			'team-' || g % 100, jsonb_build_object('env', case when g % 10 = 0 then 'staging' else 'production' end, 'app', 'app-' || g % 5000),
			case when g % 1000 = 0 then 'degraded' else 'active' end, now() + make_interval(secs => 86400.0 * (20 + g % 60))
		from generate_series($1::int, $2::int) g, team t, issuer i, profile p, renewal_policy r
		where t.name = 'default' and i.name = 'local' and p.name = 'server' and r.name = 'default' and $3::int >= 0 and not $4::bool is null`,
		`insert into holder (id, certificate_id, kind, agent_id, version_id)
		select ` + seedHolder + `, ` + seedCertificate + `, 'agent', a.id, ` + seedVersion + `
		from generate_series($1::int, $2::int) g, (select id from agent limit 1) a where $3::int >= 0 and not $4::bool is null`,
		`insert into version (id, certificate_id, holder_id, issuer_id, authority_id, revision, serial, fingerprint, spki, algorithm,
			not_before, not_after, leaf, chain_digest, origin, renew_at, revoked_at, revocation)
		select ` + seedVersion + `, ` + seedCertificate + `, ` + seedHolder + `, a.issuer_id, a.id, 1, '5e' || lpad(to_hex(g), 38, '0'),
			sha256(('f' || g)::bytea), sha256(('s' || g)::bytea), 'ecdsa-p256', now() - interval '20 days',
			now() + make_interval(secs => 86400.0 * (20 + g % 60)), decode(repeat(md5(g::text), 40), 'hex'), a.chain_digest, 'issued',
			case when g <= $3 then now() - interval '1 hour' else now() + interval '30 days' end,
			case when $4 then now() end, case when $4 then 'superseded' else '' end
		from generate_series($1::int, $2::int) g, authority a where a.state = 'active' and not a.is_root`,
		`insert into due (kind, id, verb, lane, urgency, due_at)
		select 'holder', ` + seedHolder + `, 'renew', '-', 2, case when g <= $3 then now() + interval '1 hour' else now() + interval '30 days' end
		from generate_series($1::int, $2::int) g where not $4::bool`,
		`insert into event_head (object_id, sequence) select ` + seedCertificate + `, 3
		from generate_series($1::int, $2::int) g where $3::int >= 0 and not $4::bool is null`,
	} {
		if _, err := s.store.Pool().Exec(ctx, statement, from, to, o.due, o.revoked); err != nil {
			return err
		}
	}
	return nil
}

// seedNext gives the first holders the requests that their agents handed over.
func (s *stand) seedNext(ctx context.Context, next [][]byte) error {
	if len(next) == 0 {
		return nil
	}
	_, err := s.store.Pool().Exec(ctx, `
		update holder set next_csr = new.csr, next_spki = new.spki, next_agent_id = holder.agent_id
		from (select `+seedHolder+` as id, csr, sha256(csr) as spki from unnest($1::bytea[]) with ordinality as n(csr, g)) new
		where holder.id = new.id`, next)
	return err
}

// seedEvents writes events that nobody has published.
func (s *stand) seedEvents(ctx context.Context, from, to int) error {
	_, err := s.store.Pool().Exec(ctx, `
		with written as (
			insert into event (id, team_id, aggregate, object_id, sequence, name, actor, outcome, trace, body, sha256)
			select `+seedEvent+`, e.team_id, e.aggregate, e.object_id, g + 1000000, e.name, e.actor, e.outcome, '', e.body, e.sha256
			from generate_series($1::int, $2::int) g, (select * from event where name = 'system_started' or aggregate = 'certificate' limit 1) e
			returning id)
		insert into event_out (id) select id from written`, from, to)
	return err
}

// seedAgent makes an agent that is never there, for the holders of seeded
// certificates.
func (s *stand) seedAgent(ctx context.Context) error {
	_, err := s.store.Pool().Exec(ctx, `
		insert into agent (id, team_id, name, state, machine_id, statement)
		select `+fmt.Sprintf(seedID, "04")+`, team.id, 'seed', 'active', 'seed', '{}' from team, (select 1 as g) one where team.name = 'default'`)
	return err
}
