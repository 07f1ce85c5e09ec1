package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// reportedProof is a set of proofs that reports say something of.
type reportedProof struct {
	id, external, agent certctl.ID
	number              int64 // of the newest command

	held    bool // recorded now
	refusal *certctl.Refusal
}

func (b *reportBatch) readProofs(ctx context.Context, ids []certctl.ID) error {
	b.proofs = map[certctl.ID]*reportedProof{}
	rows, err := b.Query(ctx, `
		select id, external_id, agent_id, number from node_proof where id = any($1) order by id for no key update`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedProof, error) {
		p := &reportedProof{}
		return p, row.Scan(&p.id, &p.external, &p.agent, &p.number)
	})
	for _, p := range all {
		b.proofs[p.id] = p
	}
	return err
}

// takeHeld takes an agent's word that the CA can see its proofs, or, with a
// refusal, that it cannot, and why.
func (b *reportBatch) takeHeld(s certctl.Statement, refusal *certctl.Refusal) error {
	p := b.proofs[s.Object]
	switch {
	case p == nil:
		return over("proof")
	case p.agent != s.Agent:
		return notYours("proof")
	case s.Number != p.number:
		return over("proof")
	}
	p.held, p.refusal = refusal == nil, refusal
	b.done[dueProof] = append(b.done[dueProof], p.id)
	return nil
}

// writeProofs stores who holds which proofs, and lets the orders go on that wait
// for nobody else, or that somebody lets wait in vain.
func (b *reportBatch) writeProofs(ctx context.Context) error {
	touched := map[certctl.ID]bool{}
	for _, id := range sortedIDs(b.proofs) {
		p := b.proofs[id]
		switch {
		case p.held:
			if err := b.put(ctx, `update node_proof set held_at = now(), refusal = null where id = $1`, id); err != nil {
				return err
			}
		case p.refusal != nil:
			refusal := certctl.Refusal{
				Code: certctl.Clip(p.refusal.Code, 100), Message: certctl.Clip(p.refusal.Message, 500), Remedy: certctl.Clip(p.refusal.Remedy, 300),
			}
			if err := b.put(ctx, `
				update node_proof p set held_at = null, refusal = $2,
					refused_session = coalesce((select session from agent_contact where agent_id = p.agent_id), 0)
				where id = $1`, id, refusal); err != nil {
				return err
			}
		default:
			continue
		}
		touched[p.external] = true
	}
	return b.goOnProven(ctx, keysOf(touched))
}

// goOnProven ends the wait of orders and tests at CAs for the nodes that prove them.
func (b *reportBatch) goOnProven(ctx context.Context, externals []certctl.ID) error {
	if len(externals) == 0 {
		return nil
	}
	if err := b.provenTrials(ctx, externals); err != nil {
		return err
	}
	rows, err := b.Query(ctx, `
		update cert_order o set wait = '', updated_at = now() from (
			select o.id from external_order x join cert_order o on o.id = x.order_id and o.issuer_id = x.issuer_id
			join attempt a on a.order_id = o.id and a.n = o.attempts
			where x.id = any($1) and x.abandoned_at is null and o.state = 'processing' and a.outcome = '' and a.paused
				and (o.wait = 'nodes' and exists (select from node_proof where external_id = x.id and refusal is not null)
					or (o.wait = 'nodes' or o.wait = 'backoff' and o.error_code = $2)
						and not exists (select from node_proof where external_id = x.id and held_at is null))
			order by o.id for no key update of o) proven
		where o.id = proven.id returning o.id, o.issuer_id, o.urgency`, externals, certctl.CodeNodeRefused)
	if err != nil {
		return err
	}
	var order, issuer certctl.ID
	var urgency certctl.Urgency
	_, err = pgx.ForEachRow(rows, []any{&order, &issuer, &urgency}, func() error {
		b.due = append(b.due, dueRow{kind: dueOrder, id: order, verb: certctl.HintIssue, lane: issuer.String(), urgency: urgency, at: b.now.Add(agentReminder)})
		b.hint(certctl.HintIssue, issuer.String(), order)
		return nil
	})
	return err
}
