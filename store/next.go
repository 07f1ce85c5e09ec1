package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
)

// askNextKeys asks for the keys of the next leaves with the installations that
// bring a key into service for which there is no successor yet. A holder that
// one agent has can hand one over; who holds a key together with others does not.
func (t *tx) askNextKeys(ctx context.Context, open []*sending) error {
	ids, byID := make([]certctl.ID, len(open)), make(map[certctl.ID]*sending, len(open))
	for i, s := range open {
		ids[i], byID[s.work.Deployment.ID] = s.work.Deployment.ID, s
	}
	rows, err := t.Query(ctx, `
		select d.id, h.id, c.dns, c.ips, c.uris, c.emails, p.body
		from deployment d join binding b on b.id = d.binding_id join holder h on h.id = b.holder_id
		join certificate c on c.id = d.certificate_id join profile p on p.id = c.profile_id join version v on v.id = d.version_id
		where d.id = any($1) and h.kind = 'agent' and h.ended_at is null and h.agent_id = d.agent_id and h.sealed_key is null
			and c.key_mode = 'agent' and c.issuers <> '{}' and c.archived_at is null
			and (h.next_spki is null or h.next_spki = v.spki)`, ids)
	if err != nil {
		return err
	}
	for rows.Next() {
		var id certctl.ID
		var body []byte
		var profile certctl.Profile
		next := &certctl.NextKey{}
		if err := rows.Scan(&id, &next.Holder, &next.Names.DNS, &next.Names.IP, &next.Names.URI, &next.Names.Email, &body); err != nil {
			return err
		}
		if err := json.Unmarshal(body, &profile); err != nil {
			return err
		}
		if profile.ReuseKey || len(profile.KeyAlgorithms) == 0 {
			continue
		}
		next.Algorithm = profile.KeyAlgorithms[0]
		byID[id].work.Next = next
	}
	return rows.Err()
}

// takeNextKeys gives orders the requests that their agents have handed over, so
// that they are ready at once. One that does not fit the order is forgotten: the
// agent is asked for a key as usual.
func (t *tx) takeNextKeys(ctx context.Context, specs []orderSpec, bases map[certctl.ID]*orderBasis, holders map[certctl.ID]orderHolder) error {
	var spkis []certctl.Digest
	for _, h := range holders {
		if h.next.CSR != nil {
			spkis = append(spkis, h.next.CSR.SPKI)
		}
	}
	if len(spkis) == 0 {
		return nil
	}
	blocked, err := t.blockedKeys(ctx, spkis)
	if err != nil {
		return err
	}
	var unfit []certctl.ID
	for i := range specs {
		spec := &specs[i]
		holder, basis := holders[spec.Holder], bases[spec.Certificate]
		if holder.next.CSR == nil || spec.CSR != nil || basis == nil {
			continue
		}
		_, isBlocked := blocked[holder.next.CSR.SPKI]
		if spec.discarded = holder.next.Unfit(basis.names, basis.profile, holder.agent, isBlocked); spec.discarded != "" {
			unfit = append(unfit, spec.Holder)
			continue
		}
		spec.CSR, spec.handedOver = holder.next.CSR, true
	}
	return t.forgetNextKeys(ctx, unfit...)
}

// forgetNextKeys drops what was handed over for holders. Their agents keep the
// keys until they hand over others, or the last binding is gone.
func (t *tx) forgetNextKeys(ctx context.Context, holders ...certctl.ID) error {
	if len(holders) == 0 {
		return nil
	}
	err := t.put(ctx, `
		update holder set next_csr = null, next_spki = null, next_agent_id = null
		where id = any($1) and next_csr is not null`, holders)
	return err
}

// forgetTaintedNextKeys drops what was handed over for the holders of versions
// whose keys are out: the next key lay beside them.
func (t *tx) forgetTaintedNextKeys(ctx context.Context, versions []revocable) error {
	holders := map[certctl.ID]bool{}
	for _, v := range versions {
		holders[v.holder] = true
	}
	return t.forgetNextKeys(ctx, keysOf(holders)...)
}

// nextOf reads what was handed over for a holder.
func nextOf(der []byte, agent certctl.ID) certctl.NextCSR {
	if len(der) == 0 {
		return certctl.NextCSR{}
	}
	csr, err := certctl.RecordedCSR(der)
	if err != nil { // it was read when it came
		return certctl.NextCSR{}
	}
	return certctl.NextCSR{CSR: csr, Agent: agent}
}

// reportedHolder is the holder of a binding that a receipt is about.
type reportedHolder struct {
	id, agent certctl.ID
	live      bool // of one agent, and managed
	next      certctl.Digest
	spki      certctl.Digest // of the receipt's version
	names     certctl.Names  // of the certificate now
	profile   certctl.Profile
	handed    bool // the version is for a key that was handed over

	accepted *certctl.CSR // now
	inUse    bool         // what was handed over is in service now
	lost     bool         // the node has lost the key of the version
}

// takeNext judges the request that came with a receipt of what is in place now.
func (b *reportBatch) takeNext(d *reportedDeployment, csr *certctl.CSR) {
	h := &d.holder
	h.inUse = h.next == h.spki && !h.spki.IsZero()
	if csr == nil || !h.live || h.agent != d.Agent || csr.SPKI == h.spki || csr.SPKI == h.next || b.served[csr.SPKI] {
		return
	}
	_, blocked := b.blocked[csr.SPKI]
	if (certctl.NextCSR{CSR: csr, Agent: d.Agent}).Unfit(h.names, h.profile, h.agent, blocked) == "" {
		h.accepted = csr
	}
}

// writeNextKeys stores what was handed over, drops what is in service now, and
// orders anew where a node has lost a key that it had handed over.
func (b *reportBatch) writeNextKeys(ctx context.Context) error {
	var given, agents, ended, lost []certctl.ID
	var csrs, spkis [][]byte
	for _, id := range sortedIDs(b.deployments) {
		d := b.deployments[id]
		switch h := &d.holder; {
		case h.accepted != nil:
			given, agents = append(given, h.id), append(agents, h.agent)
			csrs, spkis = append(csrs, h.accepted.DER), append(spkis, h.accepted.SPKI[:])
		case h.inUse:
			ended = append(ended, h.id)
		case h.lost:
			lost = append(lost, d.ID)
		}
	}
	if err := b.forgetNextKeys(ctx, ended...); err != nil {
		return err
	}
	if len(given) > 0 {
		// Of two receipts of one holder, both carry the same request.
		if _, err := b.Exec(ctx, `
			update holder h set next_csr = new.csr, next_spki = new.spki, next_agent_id = new.agent
			from unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::uuid[]) as new(id, csr, spki, agent)
			where h.id = new.id and h.ended_at is null and h.kind = 'agent'`, given, csrs, spkis, agents); err != nil {
			return err
		}
	}
	return b.orderLost(ctx, lost)
}
