package store

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueProof is the kind of proofs that their agent should hold.
const dueProof = "proof"

// maxProofBytes bounds the proofs of one answer, as encoded, as maxAnswer bounds
// the rest of it. One set is sent in any case.
const maxProofBytes = 48 << 10

// PutNodeProofs asks agents to hold an order's proofs, and rings them. Proofs that
// an agent holds already are left alone; one that has refused is asked again.
func (s *Store) PutNodeProofs(ctx context.Context, order certctl.ID, groups []certctl.NodeProofs) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		var external certctl.ID
		err := t.QueryRow(ctx, `select id from external_order where (order_id = $1 or trial_id = $1) and abandoned_at is null for share`, order).Scan(&external)
		if errors.Is(err, pgx.ErrNoRows) {
			return certctl.Errorf(certctl.Conflict, "the order %s may prove nothing any more", order)
		}
		if err != nil {
			return err
		}
		byAgent := map[certctl.ID][]certctl.Proof{}
		for _, group := range groups {
			agents, err := t.answerers(ctx, order, group.By)
			if err != nil {
				return err
			}
			for _, agent := range agents {
				byAgent[agent] = append(byAgent[agent], group.Proofs...)
			}
		}
		return t.putNodeProofs(ctx, external, byAgent)
	})
}

func (t *tx) putNodeProofs(ctx context.Context, external certctl.ID, byAgent map[certctl.ID][]certctl.Proof) error {
	agents := sortedIDs(byAgent)
	if err := t.dropProofs(ctx, `p.external_id = $1 and p.agent_id <> all($2)`, external, agents); err != nil {
		return err
	}
	ids, proofs := make([]certctl.ID, len(agents)), make([]string, len(agents))
	for i, agent := range agents {
		encoded, err := json.Marshal(byAgent[agent])
		if err != nil {
			return err
		}
		ids[i], proofs[i] = certctl.NewID(t.now).WithOrder(i), string(encoded)
	}
	rows, err := t.Query(ctx, `
		insert into node_proof (id, external_id, agent_id, number, proofs)
		select new.id, $1, new.agent, $2, new.proofs from unnest($3::uuid[], $4::uuid[], $5::jsonb[]) as new(id, agent, proofs)
		on conflict (external_id, agent_id) do update set number = excluded.number, proofs = excluded.proofs, held_at = null, refusal = null
		where node_proof.proofs <> excluded.proofs or node_proof.refusal is not null
		returning id, agent_id`, external, t.now.UnixMicro(), ids, agents, proofs)
	if err != nil {
		return err
	}
	return t.ringFor(ctx, dueProof, rows)
}

// answerers finds the agents that are to answer for an order or a test: those of
// the targets that its certificate is bound on, or named ones of its team or of its
// issuer's.
func (t *tx) answerers(ctx context.Context, order certctl.ID, by certctl.Answerers) ([]certctl.ID, error) {
	rows, err := t.Query(ctx, `
		select distinct on (case when $2 then a.id::text else a.name end) a.id, a.name
		from (
			select o.issuer_id, c.team_id, array(select target.agent_id from binding b join target on target.id = b.target_id
				where b.certificate_id = c.id and b.unbound_at is null) as bound
			from cert_order o join certificate c on c.id = o.certificate_id where o.id = $1
			union all select issuer_id, team_id, agents from trial where id = $1) o
		join issuer i on i.id = o.issuer_id
		join agent a on a.state <> 'retired' and case when $2 then a.id = any(o.bound)
			else a.name = any($3) and a.team_id in (o.team_id, i.team_id) end
		order by case when $2 then a.id::text else a.name end, a.team_id = o.team_id desc, a.id`, order, by.Bound, some(by.Names))
	if err != nil {
		return nil, err
	}
	var ids []certctl.ID
	missing := slices.Clone(by.Names)
	var agent certctl.Ref
	if _, err := pgx.ForEachRow(rows, []any{&agent.ID, &agent.Name}, func() error {
		ids = append(ids, agent.ID)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == agent.Name })
		return nil
	}); err != nil {
		return nil, err
	}
	switch {
	case len(missing) > 0:
		return nil, certctl.Errorf(certctl.Invalid, "no agent is called %s", strings.Join(missing, ", ")).
			WithRemedy("correct answered_by under challenges of the issuer, or enrol the agent in the team of the certificate or of the issuer")
	case len(ids) == 0:
		return nil, certctl.Errorf(certctl.Invalid, "agents are to answer the CA, and the certificate is bound on none").
			WithRemedy("bind it on a target of the nodes that its names lead to, or name agents under answered_by of the issuer")
	}
	return ids, nil
}

// NodeProofs says for each agent that is to hold an order's proofs whether it does.
func (s *Store) NodeProofs(ctx context.Context, order certctl.ID) ([]certctl.NodeProof, error) {
	rows, err := s.pool.Query(ctx, `
		select a.id, a.name, p.held_at is not null, p.refusal, contact.at,
			a.state <> 'active' or contact.at is null or contact.at <= now() - make_interval(secs => $2)
		from external_order x join node_proof p on p.external_id = x.id join agent a on a.id = p.agent_id
		left join agent_contact contact on contact.agent_id = a.id
		where (x.order_id = $1 or x.trial_id = $1) and x.abandoned_at is null order by a.name, a.id`, order, certctl.OfflineAfter.Seconds())
	if err != nil {
		return nil, failed(err, "the nodes' proofs could not be read")
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p certctl.NodeProof, err error) {
		return p, row.Scan(&p.Agent.ID, &p.Agent.Name, &p.Held, &p.Refusal, &p.LastContact, &p.Offline)
	})
	return all, failed(err, "the nodes' proofs could not be read")
}

// dropProofs takes proofs back from agents, and rings them. Those that do not hear
// it are told when they ask, since they say what they hold.
func (t *tx) dropProofs(ctx context.Context, where string, args ...any) error {
	rows, err := t.Query(ctx, `delete from node_proof p where `+where+` returning p.id, p.agent_id`, args...)
	if err != nil {
		return err
	}
	var ids []certctl.ID
	agents := map[certctl.ID]bool{}
	var id, agent certctl.ID
	if _, err := pgx.ForEachRow(rows, []any{&id, &agent}, func() error {
		ids, agents[agent] = append(ids, id), true
		return nil
	}); err != nil || len(ids) == 0 {
		return err
	}
	t.ring(agents)
	return t.done(ctx, dueProof, ids...)
}

// openProof is a set of proofs of an agent that asks.
type openProof struct {
	certctl.ProveWork
	agent   certctl.ID
	held    bool
	refused bool
	session int64 // which run has refused
}

// sendProofs puts the proofs into the boxes that agents should hold and do not
// say that they hold, and takes back those that they hold and should not. It
// returns how many bytes of each answer that takes.
func (t *tx) sendProofs(ctx context.Context, asking map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork) (map[certctl.ID]int, error) {
	rows, err := t.Query(ctx, `
		select p.id, p.number, p.proofs, p.agent_id, p.held_at is not null, p.refusal is not null, p.refused_session
		from node_proof p join external_order x on x.id = p.external_id
		where p.agent_id = any($1) and x.abandoned_at is null order by p.id`, sortedIDs(asking))
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p openProof, err error) {
		return p, row.Scan(&p.Set, &p.Number, &p.Proofs, &p.agent, &p.held, &p.refused, &p.session)
	})
	if err != nil {
		return nil, err
	}
	size, wanted := map[certctl.ID]int{}, map[certctl.ID]bool{}
	for _, p := range all {
		wanted[p.Set] = true
		c, box := asking[p.agent], boxes[p.agent]
		if p.refused && p.session == c.session.number || p.held && slices.Contains(c.last.Proving, p.Set) {
			continue
		}
		bytes := encodedProofs(p.Proofs)
		if size[p.agent] > 0 && size[p.agent]+bytes > maxProofBytes {
			box.More = true
			continue
		}
		size[p.agent] += bytes
		box.Proves = append(box.Proves, p.ProveWork)
	}
	for agent, c := range asking {
		for _, set := range c.last.Proving[:min(len(c.last.Proving), maxCommands)] {
			if !wanted[set] {
				boxes[agent].Proves = append(boxes[agent].Proves, certctl.ProveWork{Set: set, Number: t.now.UnixMicro()})
			}
		}
	}
	return size, nil
}

// encodedProofs estimates what a set of proofs takes in an answer.
func encodedProofs(proofs []certctl.Proof) int {
	size := 1 << 10
	for _, p := range proofs {
		size += (len(p.Identifier) + len(p.Token) + len(p.Answer) + 80) * 4 / 3
	}
	return size
}
