package store

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// recoveredLeaf is a leaf that an agent has sent, and where it belongs.
type recoveredLeaf struct {
	recovery, agent certctl.ID
	item            certctl.InventoryItem
	leaf            certctl.Leaf
	authority       certctl.ID // that has signed it; absent: none of ours
	stub            leafFacts  // of its issuance's event; Version is absent without one
	revokedAt       time.Time  // of the stub
	binding         recoveredBinding
}

// recoveredBinding is what the database knows of the place of the leaf; all is
// absent when the binding is lost.
type recoveredBinding struct {
	certificate, holder, target, policy, current certctl.ID
	team, name                                   string
	revision                                     int64
	names                                        certctl.Names
	issuers                                      []certctl.ID
	currentFrom                                  time.Time // notBefore of the current version
	live                                         bool
}

// writeInventories takes in the leaves that agents were asked for. One that is
// not believed is noted as refused, so that it holds nothing back any longer.
func (b *reportBatch) writeInventories(ctx context.Context) error {
	for _, report := range b.inventories {
		agent := report.Statement.Agent
		recovery, err := b.askedIn(ctx, agent)
		if err != nil {
			return err
		}
		holders := map[certctl.ID]bool{}
		for _, item := range report.Inventory.Items {
			f := &recoveredLeaf{recovery: recovery, agent: agent, item: item}
			if err := b.takeLeaf(ctx, f, holders); err != nil {
				return err
			}
		}
		if err := b.deployMissing(ctx, keysOf(holders)); err != nil {
			return err
		}
		b.bell(agent) // what was held back for these leaves may come
	}
	return nil
}

// askedIn returns the newest recovery in which an agent was asked for a leaf, or
// the absent id.
func (t *tx) askedIn(ctx context.Context, agent certctl.ID) (recovery certctl.ID, err error) {
	err = t.QueryRow(ctx, `
		select (select recovery_id from recovery_version where agent_id = $1 and outcome = '' order by recovery_id desc limit 1)`, agent).Scan(&recovery)
	return recovery, err
}

// takeLeaf takes one leaf in, if it was asked for, or notes why not.
func (b *reportBatch) takeLeaf(ctx context.Context, f *recoveredLeaf, holders map[certctl.ID]bool) error {
	var asked bool
	if err := b.QueryRow(ctx, `
		select exists (select from recovery_version where recovery_id = $1 and agent_id = $2 and binding_id = $3 and version_id = $4 and outcome = '')`,
		f.recovery, f.agent, f.item.Binding, f.item.Version).Scan(&asked); err != nil || !asked {
		return err
	}
	refusal, err := b.judgeLeaf(ctx, f)
	if err != nil {
		return err
	}
	outcome, reason := "taken", ""
	if refusal != nil {
		outcome, reason = "refused", certctl.Clip(certctl.ErrorMessage(refusal), 500)
	} else if err := b.keepLeaf(ctx, f, holders); err != nil {
		return err
	}
	_, err = b.Exec(ctx, `
		update recovery_version set outcome = $5, reason = $6
		where recovery_id = $1 and agent_id = $2 and binding_id = $3 and version_id = $4`,
		f.recovery, f.agent, f.item.Binding, f.item.Version, outcome, reason)
	return err
}

// judgeLeaf reads what is known of a leaf, and says why it is not believed.
func (b *reportBatch) judgeLeaf(ctx context.Context, f *recoveredLeaf) (refusal, err error) {
	if f.item.Problem != "" {
		return certctl.Errorf(certctl.Conflict, "the agent cannot give it: %s", certctl.Clip(f.item.Problem, 300)), nil
	}
	if f.leaf, refusal = certctl.ParseLeaf(f.item.Leaf); refusal != nil {
		return refusal, nil
	}
	parsed, err := x509.ParseCertificate(f.item.Leaf)
	if err != nil {
		return err, nil
	}
	if f.authority, err = b.signerOf(ctx, parsed, &f.item.Chain); err != nil {
		return nil, err
	}
	if err := b.readStub(ctx, f); err != nil {
		return nil, err
	}
	if err := b.readPlace(ctx, f); err != nil {
		return nil, err
	}
	return certctl.Recovered{
		Leaf: parsed, Chain: f.item.Chain, Fingerprint: f.stub.Fingerprint, IssuedFor: f.stub.Certificate,
		Signed: !f.authority.IsZero(), Certificate: f.binding.certificate, Names: f.binding.names,
	}.Believe(), nil
}

// signerOf returns the authority of ours that has signed a leaf, and puts that
// authority's chain in the place of the agent's.
func (t *tx) signerOf(ctx context.Context, leaf *x509.Certificate, chain *certctl.Chain) (certctl.ID, error) {
	rows, err := t.Query(ctx, `
		select a.id, a.certificate, chain.certs from authority a join chain on chain.digest = a.chain_digest
		where a.certificate is not null and not a.is_root`)
	if err != nil {
		return certctl.NoID, err
	}
	var id, signer certctl.ID
	var der []byte
	var own [][]byte
	_, err = pgx.ForEachRow(rows, []any{&id, &der, &own}, func() error {
		if authority, err := x509.ParseCertificate(der); err == nil && leaf.CheckSignatureFrom(authority) == nil {
			signer, *chain = id, slices.Clone(own)
		}
		return nil
	})
	if *chain == nil {
		*chain = certctl.Chain{}
	}
	return signer, err
}

func (b *reportBatch) readStub(ctx context.Context, f *recoveredLeaf) error {
	rows, err := b.Query(ctx, `
		select version_id, certificate_id, order_id, issuer_id, authority_id, fingerprint, revoked_at, revocation from version_stub where version_id = $1`, f.item.Version)
	if err != nil {
		return err
	}
	s := &f.stub
	_, err = pgx.ForEachRow(rows, []any{&s.Version, &s.Certificate, &s.Order, &s.Issuer, &s.Authority, &s.Fingerprint, &f.revokedAt, &s.Reason}, func() error { return nil })
	return err
}

// readPlace finds the binding of a leaf, if it is this agent's.
func (b *reportBatch) readPlace(ctx context.Context, f *recoveredLeaf) error {
	rows, err := b.Query(ctx, `
		select b.certificate_id, h.id, b.target_id, c.policy_id, h.version_id, team.name, c.name, c.revision, c.dns, c.ips, c.uris, c.emails, c.issuers,
			v.not_before, b.unbound_at is null and h.ended_at is null and c.archived_at is null
		from binding b join target on target.id = b.target_id join holder h on h.id = b.holder_id
		join certificate c on c.id = b.certificate_id join team on team.id = c.team_id left join version v on v.id = h.version_id
		where b.id = $1 and target.agent_id = $2`, f.item.Binding, f.agent)
	if err != nil {
		return err
	}
	p := &f.binding
	_, err = pgx.ForEachRow(rows, []any{&p.certificate, &p.holder, &p.target, &p.policy, &p.current, &p.team, &p.name, &p.revision,
		&p.names.DNS, &p.names.IP, &p.names.URI, &p.names.Email, &p.issuers, &p.currentFrom, &p.live}, func() error { return nil })
	return err
}

// keepLeaf stores a believed leaf: as a version of its holder, and as the current
// one if it is the newest; as a stub if its certificate is lost.
func (b *reportBatch) keepLeaf(ctx context.Context, f *recoveredLeaf, holders map[certctl.ID]bool) error {
	p := &f.binding
	if f.stub.Authority.IsZero() {
		f.stub.Authority = f.authority
	}
	if f.stub.Issuer.IsZero() && len(p.issuers) > 0 {
		f.stub.Issuer = p.issuers[0]
	}
	if p.holder.IsZero() {
		return b.stub(ctx, leafFacts{
			Certificate: f.item.Binding, Version: f.item.Version, Authority: f.stub.Authority, Issuer: f.stub.Issuer,
			Serial: f.leaf.Serial, Fingerprint: f.leaf.Fingerprint, NotAfter: f.leaf.NotAfter,
		}, b.now)
	}
	renewAt, stored, err := b.storeRecovered(ctx, f)
	if err != nil || !stored {
		return err // stored already, under another id: it was issued once more
	}
	b.changed[p.certificate] = true
	b.event(p.team, certctl.AggregateCertificate, p.certificate, certctl.EventVersionRecovered, map[string]any{
		"certificate": p.certificate, "name": p.name, "holder": p.holder, "version": f.item.Version, "serial": f.leaf.Serial,
		"fingerprint": f.leaf.Fingerprint, "not_after": f.leaf.NotAfter, "agent": f.agent, "binding": f.item.Binding,
	})
	if err := b.closeRecovered(ctx, f); err != nil {
		return err
	}
	newer := p.current.IsZero() || f.leaf.NotBefore.After(p.currentFrom) ||
		f.leaf.NotBefore.Equal(p.currentFrom) && f.item.Version.String() > p.current.String()
	if !newer || !p.live {
		return nil
	}
	if err := b.makeCurrent(ctx, f, renewAt); err != nil {
		return err
	}
	holders[p.holder] = true
	return nil
}

// storeRecovered stores the version with what its event says of it.
func (b *reportBatch) storeRecovered(ctx context.Context, f *recoveredLeaf) (renewAt time.Time, stored bool, err error) {
	p := &f.binding
	if len(p.issuers) > 0 {
		policies, err := b.policiesByID(ctx, []certctl.ID{p.policy})
		if err != nil {
			return renewAt, false, err
		}
		renewAt, _ = certctl.RenewAt(f.leaf.NotBefore, f.leaf.NotAfter, policies[p.policy], spreadOf(f.item.Version))
	}
	if err := b.storeChains(ctx, f.item.Chain); err != nil {
		return renewAt, false, err
	}
	// The revision is today's: who changed it after the backup is not known, and
	// a new leaf with the older names would be a step back.
	tag, err := b.Exec(ctx, `
		insert into version (id, certificate_id, holder_id, order_id, issuer_id, authority_id, revision, serial, fingerprint, spki, algorithm,
			not_before, not_after, leaf, chain_digest, origin, replaces, renew_at, revoked_at, revocation)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		on conflict (fingerprint) do nothing`,
		f.item.Version, p.certificate, p.holder, f.stub.Order, f.stub.Issuer, f.stub.Authority, p.revision, string(f.leaf.Serial),
		f.leaf.Fingerprint, f.leaf.SPKI, string(f.leaf.Algorithm), f.leaf.NotBefore, f.leaf.NotAfter, f.item.Leaf, f.item.Chain.Digest(),
		string(certctl.VersionRecovered), p.current, renewAt, f.revokedAt, string(f.stub.Reason))
	if err != nil {
		return renewAt, false, err
	}
	_, err = b.Exec(ctx, `delete from version_stub where version_id = $1`, f.item.Version)
	return renewAt, tag.RowsAffected() > 0, err
}

// closeRecovered ends the order that the leaf was issued for, which the backup
// has as open, and revokes the leaf at its issuer if it was revoked.
func (b *reportBatch) closeRecovered(ctx context.Context, f *recoveredLeaf) error {
	if !f.revokedAt.IsZero() {
		v := revocable{
			id: f.item.Version, certificate: f.binding.certificate, holder: f.binding.holder, issuer: f.stub.Issuer,
			authority: f.stub.Authority, spki: f.leaf.SPKI, notAfter: f.leaf.NotAfter,
		}
		if err := b.announceRevoked(ctx, []revocable{v}, nil, f.stub.Reason); err != nil {
			return err
		}
	}
	tag, err := b.Exec(ctx, `
		update cert_order set state = 'issued', wait = '', error_code = '', message = '', version_id = $2, updated_at = now(), closed_at = now()
		where id = $1 and live`, f.stub.Order, f.item.Version)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	if _, err := b.Exec(ctx, `update attempt set outcome = 'issued', finished_at = now() where order_id = $1 and outcome = ''`, f.stub.Order); err != nil {
		return err
	}
	if _, err := b.Exec(ctx, `delete from issuer_slot where order_id = $1`, f.stub.Order); err != nil {
		return err
	}
	return b.tx.done(ctx, dueOrder, f.stub.Order)
}

// makeCurrent makes a recovered version its holder's current one, on the binding
// where its agent has it.
func (b *reportBatch) makeCurrent(ctx context.Context, f *recoveredLeaf, renewAt time.Time) error {
	p := &f.binding
	if _, err := b.Exec(ctx, `
		update holder set version_id = $2, kept_revision = 0,
			sealed_key = case when exists (select from version where id = version_id and spki = $3) then sealed_key end
		where id = $1`, p.holder, f.item.Version, f.leaf.SPKI); err != nil {
		return err
	}
	if err := b.endDeployments(ctx, f.item.Binding); err != nil {
		return err
	}
	state := certctl.DeploymentInstalled
	if f.item.Outcome == certctl.OutcomeVerified {
		state = certctl.DeploymentVerified
	}
	if _, err := b.Exec(ctx, `
		insert into deployment as d (id, certificate_id, binding_id, target_id, agent_id, version_id, state, number, verified_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, case when $7 = 'verified' then now() end)
		on conflict (binding_id, version_id) do update set state = excluded.state, updated_at = now()`,
		certctl.NewID(b.now), p.certificate, f.item.Binding, p.target, f.agent, f.item.Version, string(state), f.item.Number); err != nil {
		return err
	}
	if b.plausible(f.item.Number) {
		if _, err := b.Exec(ctx, `update binding set number = greatest(number, $2) where id = $1`, f.item.Binding, f.item.Number); err != nil {
			return err
		}
	}
	if !f.revokedAt.IsZero() {
		renewAt = b.now
	}
	if renewAt.IsZero() {
		return b.tx.done(ctx, dueHolder, p.holder)
	}
	return b.dueUnlessEnded(ctx, []dueRow{holderDue(p.holder, renewAt, f.leaf.NotAfter, b.now)})
}

// deployMissing sends holders' recovered versions to those of their bindings
// whose agents do not have them.
func (b *reportBatch) deployMissing(ctx context.Context, holders []certctl.ID) error {
	rows, err := b.Query(ctx, `
		select b.certificate_id, b.id, b.target_id, target.agent_id, h.version_id
		from holder h join binding b on b.holder_id = h.id join target on target.id = b.target_id
		where h.id = any($1) and b.unbound_at is null
			and not exists (select from deployment where binding_id = b.id and version_id = h.version_id) order by b.id`, holders)
	if err != nil {
		return err
	}
	specs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s deploymentSpec, err error) {
		return s, row.Scan(&s.certificate, &s.binding, &s.target, &s.agent, &s.version)
	})
	if err != nil || len(specs) == 0 {
		return err
	}
	bindings := make([]certctl.ID, len(specs))
	for i, s := range specs {
		bindings[i] = s.binding
	}
	if err := b.endDeployments(ctx, bindings...); err != nil {
		return err
	}
	return b.newDeployments(ctx, specs)
}
