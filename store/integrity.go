package store

import (
	"context"
	"fmt"

	"github.com/certctl/certctl"
)

// promises are what the tables must never contradict: each query counts the rows
// that do.
var promises = []struct{ broken, query string }{
	{"open orders that nobody will look at", `
		select count(*) from cert_order o where live and not exists (select from due where kind = 'order' and id = o.id)`},
	{"finished orders that are due", `
		select count(*) from due join cert_order o on o.id = due.id where due.kind = 'order' and o.live is null`},
	{"unfinished deployments that nobody will look at", `
		select count(*) from deployment d where state = any('{pending,installing,rolled_back,failed}')
			and not exists (select from due where kind = 'deployment' and id = d.id)`},
	{"finished deployments that are due", `
		select count(*) from due join deployment d on d.id = due.id
		where due.kind = 'deployment' and d.state = any('{verified,installed,superseded}')`},
	{"bindings that no agent is asked to forget", `
		select count(*) from binding b where unbound_at is not null and forgotten_at is null
			and not exists (select from due where kind = 'binding' and id = b.id)`},
	{"compromised keys that no agent is asked to erase", `
		select count(*) from key_erasure e join agent a on a.id = e.agent_id where e.erased_at is null and a.state <> 'retired'
			and not exists (select from due where kind = 'erasure' and id = e.id)`},
	{"unfinished tests of targets that nobody will look at", `
		select count(*) from target_test x join target on target.id = x.target_id join agent a on a.id = target.agent_id
		where x.finished_at is null and x.not_after > now() and a.state <> 'retired' and not exists (select from due where kind = 'test' and id = x.id)`},
	{"finished tests of targets that are due", `
		select count(*) from due where kind = 'test' and not exists (select from target_test x where x.id = due.id and x.finished_at is null)`},
	{"holders to renew that nobody will look at", `
		select count(*) from holder h join version v on v.id = h.version_id join certificate c on c.id = h.certificate_id
		where h.ended_at is null and v.renew_at is not null and c.purpose = 'user' and c.archived_at is null and not c.paused and c.issuers <> '{}'
			and not exists (select from due where kind = 'holder' and id = h.id)
			and not exists (select from cert_order where certificate_id = h.certificate_id and holder_id = h.id and live)`},
	{"waiting revocations that nobody will look at", `
		select count(*) from revocation r where state = 'waiting'
			and not exists (select from due where kind = 'revocation' and id = r.version_id)`},
	{"running rollouts that nobody will look at", `
		select count(*) from rollout r where state = any('{running,halted,stopped}')
			and not exists (select from due where kind = 'rollout' and id = r.id)`},
	{"ended holders with live bindings", `
		select count(*) from binding b join holder h on h.id = b.holder_id where b.unbound_at is null and h.ended_at is not null`},
	{"ended holders that are due", `
		select count(*) from due join holder h on h.id = due.id where due.kind = 'holder' and h.ended_at is not null`},
	{"shared holders without a member", `
		select count(*) from holder h where h.kind = 'shared' and h.ended_at is null
			and not exists (select from holder_member where holder_id = h.id and left_at is null)`},
	{"agents with a binding of a shared holder that are no members", `
		select count(*) from binding b join holder h on h.id = b.holder_id join target on target.id = b.target_id
		where h.kind = 'shared' and b.unbound_at is null
			and not exists (select from holder_member where holder_id = h.id and agent_id = target.agent_id and left_at is null)`},
	{"shared keys of those who have left", `
		select count(*) from member_key k join holder_member m on m.holder_id = k.holder_id and m.agent_id = k.agent_id where m.left_at is not null`},
	{"sealed keys whose member has installed a leaf", `
		select count(*) from member_key k where k.sealed is not null and exists (
			select from binding b join deployment d on d.binding_id = b.id join version v on v.id = d.version_id
			where b.holder_id = k.holder_id and b.unbound_at is null and d.agent_id = k.agent_id and v.spki = k.spki and d.state in ('verified', 'installed')
				and d.updated_at > k.created_at)`},
	{"members that nobody is asked to give the key", `
		select count(*) from holder h join version v on v.id = h.version_id join holder_member m on m.holder_id = h.id join agent a on a.id = m.agent_id
		where h.kind = 'shared' and h.ended_at is null and h.sealed_key is null and m.left_at is null and m.refused = '' and a.state = 'active'
			and v.revoked_at is null and v.not_after > now() and not exists (select from blocked_key where spki = v.spki)
			and not exists (select from member_key k where k.holder_id = h.id and k.agent_id = m.agent_id and k.spki = v.spki)
			and not exists (select from due where kind = 'share' and id = h.id)`},
	{"issued orders without their version", `
		select count(*) from cert_order o where state = 'issued' and not exists (select from version where id = o.version_id and order_id = o.id)`},
	{"versions that no order asked for", `
		select count(*) from version v join certificate c on c.id = v.certificate_id
		where v.origin = 'issued' and c.purpose = 'user' and not exists (select from cert_order where id = v.order_id and version_id = v.id)
			and (exists (select from cert_order where id = v.order_id) or v.created_at >= ` + horizon(certctl.RetainOrders) + `)`},
	{"issued versions without their event", `
		select count(*) from version v where v.origin = 'issued' and v.created_at >= ` + horizon(certctl.RetainEvents) + ` and not exists (
			select from event where object_id = v.certificate_id and name = 'certificate_issued'
				and convert_from(body, 'UTF8')::jsonb->'data'->>'version' = v.id::text)`},
	{"orders at a CA that nobody works on or ends", `
		select count(*) from external_order x where case when abandoned_at is null
			then not exists (select from cert_order o where o.id = x.order_id and o.state = 'processing' and o.issuer_id = x.issuer_id)
				and not exists (select from due where kind = 'trial' and id = x.trial_id)
			else not exists (select from due where kind = 'external_order' and id = x.id) end`},
	{"tests that nobody works on", `
		select count(*) from trial x where outcome = 'running' and not exists (select from due where kind = 'trial' and id = x.id)`},
	{"proofs that no agent is asked to hold", `
		select count(*) from node_proof p where held_at is null and refusal is null
			and not exists (select from due where kind = 'proof' and id = p.id)`},
	{"proofs that are due and not wanted any more", `
		select count(*) from due where kind = 'proof' and not exists (select from node_proof p where p.id = due.id and p.held_at is null)`},
	{"gaps in the history of an object", `
		select count(*) from (
			select from event_head h left join event e on e.object_id = h.object_id and e.sequence > h.dropped
			group by h.object_id, h.sequence, h.dropped
			having count(distinct e.sequence) <> h.sequence - h.dropped or coalesce(max(e.sequence), h.dropped) <> h.sequence) gap`},
	// What foreign keys would say of the tables in which each certificate has rows.
	{"rows that refer to nothing", danglingRows},
	{"certificates whose state is not what is looked for", `
		select count(*) from certificate c full join certificate_state s on s.certificate_id = c.id
		where (c.status, c.not_after) is distinct from (s.status, s.not_after)`},
	{"events of objects without a history", `
		select count(*) from (select distinct object_id from event) e where not exists (select from event_head where object_id = e.object_id)`},
	{"events whose hash does not fit their text", `
		select count(*) from event where sha256(body) <> sha256`},
}

// danglingRows counts references without their row, each by a query that PostgreSQL
// answers with one pass over both tables.
const danglingRows = `select
	(select count(*) from certificate c where not exists (select from team where id = c.team_id))
	+ (select count(*) from certificate c where not exists (select from profile where id = c.profile_id))
	+ (select count(*) from certificate c where not exists (select from renewal_policy where id = c.policy_id))
	+ (select count(*) from holder h where not exists (select from certificate where id = h.certificate_id))
	+ (select count(*) from holder h where h.agent_id is not null and not exists (select from agent where id = h.agent_id))
	+ (select count(*) from cert_order o where not exists (select from holder where id = o.holder_id and certificate_id = o.certificate_id))
	+ (select count(*) from cert_order o where not exists (select from issuer where id = o.issuer_id))
	+ (select count(*) from attempt a where not exists (select from cert_order where id = a.order_id))
	+ (select count(*) from version v where not exists (select from holder where id = v.holder_id and certificate_id = v.certificate_id))
	+ (select count(*) from version v where not exists (select from chain where digest = v.chain_digest))
	+ (select count(*) from version v where v.authority_id is not null and not exists (select from authority where id = v.authority_id))
	+ (select count(*) from deployment d where not exists (
		select from binding where id = d.binding_id and certificate_id = d.certificate_id and target_id = d.target_id))
	+ (select count(*) from deployment d where not exists (select from version where id = d.version_id))
	+ (select count(*) from deployment d where not exists (select from agent where id = d.agent_id))`

// horizon is the moment since when everything of a kind is there.
func horizon(kind certctl.RetentionKind) string {
	return `coalesce((select at from retention_horizon where kind = '` + string(kind) + `'), '-infinity')`
}

// CheckIntegrity looks for rows that break a promise and returns one line for
// each promise that is broken. It reads every event: run it when it does not
// hurt.
func (s *Store) CheckIntegrity(ctx context.Context) ([]string, error) {
	var found []string
	err := s.read(ctx, func(t *tx) error {
		for _, promise := range promises {
			var n int
			if err := t.QueryRow(ctx, promise.query).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				found = append(found, fmt.Sprintf("%d %s", n, promise.broken))
			}
		}
		return nil
	})
	return found, err
}
