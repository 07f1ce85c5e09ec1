package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// reportedOrder is an order that reports are about.
type reportedOrder struct {
	liveOrder
	agent   certctl.ID   // the holder's, or the member that makes a shared key
	members []certctl.ID // of a shared holder
	team    string
	name    string // of the certificate
	names   certctl.Names
	profile certctl.Profile
	number  int64 // of the newest command

	accepted *certctl.CSR
	refusal  *certctl.Refusal
}

// reportedDeployment is a deployment that reports are about.
type reportedDeployment struct {
	certctl.Deployment
	team        string
	name        string // of the certificate
	fingerprint certctl.Digest
	number      int64 // of the newest command
	holder      reportedHolder

	receipt []byte // recorded now
}

// reportedBinding is a binding that is to be forgotten.
type reportedBinding struct {
	id, certificate, agent certctl.ID
	number                 int64
	unbound, forgotten     bool

	forgets, refused bool // recorded now
}

// reportBatch locks the certificates that reports are about, and reads the rest.
func (t *tx) reportBatch(ctx context.Context, reports []certctl.AgentReport) (*reportBatch, error) {
	b := &reportBatch{
		tx: t, done: map[string][]certctl.ID{}, changed: map[certctl.ID]bool{}, orders: map[certctl.ID]*reportedOrder{},
		deployments: map[certctl.ID]*reportedDeployment{}, bindings: map[certctl.ID]*reportedBinding{},
		erasures: map[certctl.ID]*reportedErasure{},
	}
	ids, spkis, next := make([]certctl.ID, 0, len(reports)), []certctl.Digest{}, []certctl.Digest{}
	for _, r := range reports {
		ids = append(ids, r.Statement.Object)
		if r.CSR != nil {
			spkis = append(spkis, r.CSR.SPKI)
		}
		if r.Next != nil {
			next = append(next, r.Next.SPKI)
		}
		if r.Inventory != nil {
			for _, item := range r.Inventory.Items {
				ids = append(ids, item.Binding)
			}
		}
	}
	if err := t.lockCertificatesOf(ctx, `
		select certificate_id from cert_order where id = any($1)
		union select certificate_id from deployment where id = any($1)
		union select certificate_id from binding where id = any($1)
		union select certificate_id from holder where id = any($1) and kind = 'shared'
		union select o.certificate_id from node_proof p join external_order x on x.id = p.external_id join cert_order o on o.id = x.order_id
			where p.id = any($1)`, ids); err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, []certctl.ID) error{b.readOrders, b.readDeployments, b.readBindings, b.readErasures, b.readShares, b.readProofs, b.readTests} {
		if err := read(ctx, ids); err != nil {
			return nil, err
		}
	}
	var err error
	if b.blocked, err = t.blockedKeys(ctx, append(spkis, next...)); err != nil {
		return nil, err
	}
	b.served, err = t.servedKeys(ctx, next)
	return b, err
}

// servedKeys returns those of the keys that a leaf exists for.
func (t *tx) servedKeys(ctx context.Context, spkis []certctl.Digest) (map[certctl.Digest]bool, error) {
	served := map[certctl.Digest]bool{}
	if len(spkis) == 0 {
		return served, nil
	}
	rows, err := t.Query(ctx, `select distinct spki from version where spki = any($1)`, spkis)
	if err != nil {
		return nil, err
	}
	var spki certctl.Digest
	_, err = pgx.ForEachRow(rows, []any{&spki}, func() error {
		served[spki] = true
		return nil
	})
	return served, err
}

func (b *reportBatch) readOrders(ctx context.Context, ids []certctl.ID) error {
	if err := b.lockOrders(ctx, ids); err != nil {
		return err
	}
	rows, err := b.Query(ctx, `
		select o.id, o.certificate_id, o.holder_id, o.state, o.wait, o.issuer_id, o.urgency, o.csr, o.number, o.names, o.profile,
			coalesce(h.agent_id, o.maker_id), team.name, c.name,
			array(select agent_id from holder_member where holder_id = h.id and left_at is null)
		from cert_order o join holder h on h.id = o.holder_id join certificate c on c.id = o.certificate_id
		join team on team.id = c.team_id where o.id = any($1)`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedOrder, error) {
		o := &reportedOrder{}
		var names, profile []byte
		if err := row.Scan(&o.id, &o.certificate, &o.holder, &o.state, &o.wait, &o.issuer, &o.urgency, &o.csr, &o.number, &names, &profile,
			&o.agent, &o.team, &o.name, &o.members); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(names, &o.names); err != nil {
			return nil, err
		}
		return o, json.Unmarshal(profile, &o.profile)
	})
	for _, o := range all {
		b.orders[o.id] = o
	}
	return err
}

func (b *reportBatch) readDeployments(ctx context.Context, ids []certctl.ID) error {
	rows, err := b.Query(ctx, `
		select d.id, d.certificate_id, d.binding_id, d.target_id, target.name, d.agent_id, d.version_id, d.state, d.tries, d.number,
			v.fingerprint, team.name, c.name, h.id, h.agent_id, h.next_spki, v.spki, c.dns, c.ips, c.uris, c.emails, p.body,
			h.kind = 'agent' and h.ended_at is null and c.key_mode = 'agent' and c.issuers <> '{}',
			exists (select from cert_order o where o.id = v.order_id and o.number = 0)
		from deployment d join target on target.id = d.target_id join version v on v.id = d.version_id
		join certificate c on c.id = d.certificate_id join team on team.id = c.team_id join profile p on p.id = c.profile_id
		join binding b on b.id = d.binding_id join holder h on h.id = b.holder_id
		where d.id = any($1) order by d.id for no key update of d`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedDeployment, error) {
		d, body := &reportedDeployment{}, []byte{}
		h := &d.holder
		if err := row.Scan(&d.ID, &d.Certificate, &d.Binding, &d.Target.ID, &d.Target.Name, &d.Agent, &d.Version, &d.State, &d.Tries,
			&d.number, &d.fingerprint, &d.team, &d.name, &h.id, &h.agent, &h.next, &h.spki,
			&h.names.DNS, &h.names.IP, &h.names.URI, &h.names.Email, &body, &h.live, &h.handed); err != nil {
			return nil, err
		}
		return d, json.Unmarshal(body, &h.profile)
	})
	for _, d := range all {
		b.deployments[d.ID] = d
	}
	return err
}

func (b *reportBatch) readBindings(ctx context.Context, ids []certctl.ID) error {
	rows, err := b.Query(ctx, `
		select b.id, b.certificate_id, target.agent_id, b.number, b.unbound_at is not null, b.forgotten_at is not null
		from binding b join target on target.id = b.target_id where b.id = any($1) order by b.id for no key update of b`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedBinding, error) {
		x := &reportedBinding{}
		return x, row.Scan(&x.id, &x.certificate, &x.agent, &x.number, &x.unbound, &x.forgotten)
	})
	for _, x := range all {
		b.bindings[x.id] = x
	}
	return err
}
