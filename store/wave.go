package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// waveCandidate is a deployment that gets its turn when its certificate's waves
// say so.
type waveCandidate struct {
	id, certificate, policy certctl.ID
	deadline                time.Time // until which it may wait
}

// wavedDeployments adds to what is held back the deployments of renewals that
// wait for their wave. The caller has locked their certificates.
func (t *tx) wavedDeployments(ctx context.Context, ids []certctl.ID, held map[certctl.ID]heldUntil) (map[certctl.ID]heldUntil, error) {
	candidates, err := t.waveCandidates(ctx, ids, held)
	if err != nil || len(candidates) == 0 {
		return held, err
	}
	return t.waveTurns(ctx, candidates, held)
}

// claimedWaves is wavedDeployments for the dispatcher, which holds due rows and
// must not wait for anybody who holds a certificate: what is locked is looked at
// again in a moment.
func (t *tx) claimedWaves(ctx context.Context, ids []certctl.ID, held map[certctl.ID]heldUntil) (map[certctl.ID]heldUntil, error) {
	candidates, err := t.waveCandidates(ctx, ids, held)
	if err != nil || len(candidates) == 0 {
		return held, err
	}
	certificates := make([]certctl.ID, len(candidates))
	for i, c := range candidates {
		certificates[i] = c.certificate
	}
	rows, err := t.Query(ctx, `select id from certificate where id = any($1) order by id for no key update skip locked`, certificates)
	if err != nil {
		return nil, err
	}
	locked, err := setOf(rows)
	if err != nil {
		return nil, err
	}
	if held == nil {
		held = map[certctl.ID]heldUntil{}
	}
	candidates = slices.DeleteFunc(candidates, func(c waveCandidate) bool {
		if !locked[c.certificate] {
			held[c.id] = heldUntil{t.now.Add(time.Second), certctl.WaitWave}
		}
		return !locked[c.certificate]
	})
	return t.waveTurns(ctx, candidates, held)
}

// waveCandidates returns those of the deployments that waves hold at all: of
// renewals whose predecessor is good and has more than a tenth of its life left,
// under a policy with waves. Those on nodes that were there a moment ago come
// first, so that a canary is not one that sleeps.
func (t *tx) waveCandidates(ctx context.Context, ids []certctl.ID, held map[certctl.ID]heldUntil) ([]waveCandidate, error) {
	var waving bool
	if err := t.QueryRow(ctx, `select exists (select from renewal_policy where body ? 'deploy_waves')`).Scan(&waving); err != nil || !waving || len(ids) == 0 {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select d.id, d.certificate_id, p.id, old.not_before, old.not_after
		from deployment d join certificate c on c.id = d.certificate_id join renewal_policy p on p.id = c.policy_id
		join version v on v.id = d.version_id join version old on old.id = v.replaces
		left join agent_contact a on a.agent_id = d.agent_id
		where d.id = any($1) and p.body ? 'deploy_waves' and old.revoked_at is null
		order by a.at > now() - interval '2 minutes' desc nulls last, d.id`, ids)
	if err != nil {
		return nil, err
	}
	var all []waveCandidate
	var c waveCandidate
	var notBefore, notAfter time.Time
	_, err = pgx.ForEachRow(rows, []any{&c.id, &c.certificate, &c.policy, &notBefore, &notAfter}, func() error {
		c.deadline = certctl.HoldDeadline(notBefore, notAfter)
		if _, waits := held[c.id]; !waits && c.deadline.After(t.now) {
			all = append(all, c)
		}
		return nil
	})
	return all, err
}

// waveTurns lets as many candidates go as certctl.DeployWaves.Release says, and
// holds the others back.
func (t *tx) waveTurns(ctx context.Context, candidates []waveCandidate, held map[certctl.ID]heldUntil) (map[certctl.ID]heldUntil, error) {
	if len(candidates) == 0 {
		return held, nil
	}
	facts, err := t.waveFacts(ctx, candidates)
	if err != nil {
		return nil, err
	}
	wanted := map[certctl.ID]bool{}
	for _, c := range candidates {
		wanted[c.policy] = true
	}
	policies, err := t.policiesByID(ctx, keysOf(wanted))
	if err != nil {
		return nil, err
	}
	if held == nil {
		held = map[certctl.ID]heldUntil{}
	}
	left, again := map[certctl.ID]int{}, map[certctl.ID]time.Time{}
	for _, c := range candidates {
		if _, decided := again[c.certificate]; !decided {
			left[c.certificate], again[c.certificate] = policies[c.policy].DeployWaves.Release(facts[c.certificate], t.now)
		}
		if left[c.certificate] > 0 {
			left[c.certificate]--
			continue
		}
		held[c.id] = heldUntil{minTime(again[c.certificate], c.deadline), certctl.WaitWave}
	}
	return held, nil
}

// waveFacts counts how far the leaves of one renewal have spread, per
// certificate: the newest versions of its holders on their bindings, from the
// oldest one on that is not finished.
func (t *tx) waveFacts(ctx context.Context, candidates []waveCandidate) (map[certctl.ID]certctl.WaveFacts, error) {
	certificates, waiting := map[certctl.ID]bool{}, make([]certctl.ID, len(candidates))
	for i, c := range candidates {
		certificates[c.certificate], waiting[i] = true, c.id
	}
	rows, err := t.Query(ctx, `
		with spread as (
			select d.certificate_id, d.state, d.created_at, coalesce(d.verified_at, d.updated_at) as settled_at,
				d.state = 'pending' and (d.wait <> '' or d.id = any($2)) as waiting,
				min(d.created_at) filter (where d.state not in ('verified', 'installed')) over (partition by d.certificate_id) as began_at
			from binding b join holder h on h.id = b.holder_id join deployment d on d.binding_id = b.id and d.version_id = h.version_id
			where b.certificate_id = any($1) and b.unbound_at is null and d.state <> 'superseded')
		select certificate_id, count(*) filter (where state in ('verified', 'installed')),
			count(*) filter (where state in ('pending', 'installing') and not waiting), count(*) filter (where state in ('rolled_back', 'failed')),
			count(*) filter (where waiting), max(settled_at) filter (where state in ('verified', 'installed'))
		from spread where created_at >= began_at group by certificate_id`, keysOf(certificates), waiting)
	if err != nil {
		return nil, err
	}
	facts := make(map[certctl.ID]certctl.WaveFacts, len(certificates))
	var certificate certctl.ID
	var f certctl.WaveFacts
	_, err = pgx.ForEachRow(rows, []any{&certificate, &f.Settled, &f.Open, &f.Broken, &f.Waiting, &f.LastSettled}, func() error {
		facts[certificate] = f
		return nil
	})
	return facts, err
}
