package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// RetireCompromisedAgent ends an agent whose machine is in somebody else's hands,
// whatever it serves. Every key that the machine may know is blocked: those that
// it made, those that were sealed for it, and imported ones that it was sent. The
// unexpired versions with them are revoked with keyCompromise, orders for them
// end, and whoever goes on using them elsewhere, as other members of a shared key
// do, gets new ones before everything else.
//
// The actor must be allowed to revoke all of it: half of a compromise is none.
func (s *Store) RetireCompromisedAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error) {
	return s.changeAgent(ctx, actor, certctl.VerbRetire, ref, func(t *tx, f found) error {
		certificates, err := t.retire(ctx, f)
		if err != nil {
			return err
		}
		spkis, users, err := t.knownKeys(ctx, f.id)
		if err != nil {
			return err
		}
		if err := t.mayRevokeAll(ctx, users); err != nil {
			return err
		}
		if err := t.lockCertificates(ctx, append(users, certificates...)...); err != nil {
			return err
		}
		t.event(f.team, certctl.AggregateAgent, f.id, certctl.EventAgentRetired, map[string]any{
			"agent": f.id, "name": f.name, "certificates": len(certificates), "compromised": true, "keys": len(spkis),
		})
		// What is only this agent's ends first, so that nothing replaces it.
		if err := t.leave(ctx, f, certificates); err != nil {
			return err
		}
		if err := t.revokeKeys(ctx, spkis); err != nil {
			return err
		}
		return t.refreshStatus(ctx, users...)
	})
}

// knownKeys returns the keys that an agent may know, and the certificates that
// have them.
func (t *tx) knownKeys(ctx context.Context, agent certctl.ID) (spkis []certctl.Digest, users []certctl.ID, err error) {
	rows, err := t.Query(ctx, `
		with own as (select id, certificate_id from holder where agent_id = $1 and kind = 'agent'),
		member as (select h.id, h.certificate_id from holder_member m join holder h on h.id = m.holder_id where m.agent_id = $1),
		known as (
			select v.spki, v.certificate_id from own join version v on v.certificate_id = own.certificate_id and v.holder_id = own.id
			union select v.spki, v.certificate_id from deployment d join version v on v.id = d.version_id where d.agent_id = $1
			union select o.csr_spki, o.certificate_id from own join cert_order o on o.certificate_id = own.certificate_id and o.holder_id = own.id
				where o.csr_spki is not null
			union select o.csr_spki, o.certificate_id from member join cert_order o on o.certificate_id = member.certificate_id and o.holder_id = member.id
				where o.maker_id = $1 and o.csr_spki is not null
			union select k.spki, member.certificate_id from member join member_key k on k.holder_id = member.id and k.agent_id = $1)
		select spki, certificate_id from known order by certificate_id`, agent)
	if err != nil {
		return nil, nil, err
	}
	var spki certctl.Digest
	var certificate certctl.ID
	_, err = pgx.ForEachRow(rows, []any{&spki, &certificate}, func() error {
		if !slices.Contains(spkis, spki) {
			spkis = append(spkis, spki)
		}
		if len(users) == 0 || users[len(users)-1] != certificate {
			users = append(users, certificate)
		}
		return nil
	})
	return spkis, users, err
}

// mayRevokeAll refuses an actor who may not revoke one of the certificates.
func (t *tx) mayRevokeAll(ctx context.Context, certificates []certctl.ID) error {
	refs := map[string]bool{}
	for _, id := range certificates {
		refs[id.String()] = true
	}
	if len(refs) == 0 {
		return nil
	}
	known, err := t.find(ctx, reading, certctl.ObjectCertificate, t.scope(""), sortedRefs(refs)...)
	if err != nil {
		return err
	}
	for _, id := range certificates {
		f, ok := known[id.String()]
		if !ok || t.may(certctl.VerbRevoke, certctl.ObjectCertificate, f) != nil {
			return certctl.Errorf(certctl.Denied, "the machine knows a key of a certificate that %s may not revoke", t.actor.Principal.Name).
				WithRemedy("let somebody retire the agent who may revoke certificates in every team that it serves")
		}
	}
	return nil
}

// revokeKeys blocks keys for ever, ends the orders for them and revokes the
// versions with them.
func (t *tx) revokeKeys(ctx context.Context, spkis []certctl.Digest) error {
	if len(spkis) == 0 {
		return nil
	}
	if err := t.put(ctx, `insert into blocked_key (spki, reason) select distinct spki, $2 from unnest($1::bytea[]) as k(spki) on conflict do nothing`,
		spkis, string(certctl.ReasonKeyCompromise)); err != nil {
		return err
	}
	if err := t.orderWithoutKeys(ctx, spkis); err != nil {
		return err
	}
	c := &conditions{}
	c.add("v.spki = any(?)", spkis)
	all, err := t.revocables(ctx, c)
	if err != nil || len(all) == 0 {
		return err
	}
	_, err = t.revokeAs(ctx, all, certctl.ReasonKeyCompromise, certctl.ReplaceAfter)
	return err
}

// orderWithoutKeys makes the open orders for keys anew, which are to be made by
// somebody else.
func (t *tx) orderWithoutKeys(ctx context.Context, spkis []certctl.Digest) error {
	rows, err := t.Query(ctx, `
		select o.id, o.certificate_id, o.holder_id, o.state, team.name
		from cert_order o join certificate c on c.id = o.certificate_id join team on team.id = c.team_id
		where o.live and o.csr_spki = any($1) order by o.id for no key update of o`, spkis)
	if err != nil {
		return err
	}
	var o liveOrder
	var team string
	tainted, teams := []liveOrder{}, []string{}
	if _, err := pgx.ForEachRow(rows, []any{&o.id, &o.certificate, &o.holder, &o.state, &team}, func() error {
		tainted, teams = append(tainted, o), append(teams, team)
		return nil
	}); err != nil {
		return err
	}
	for i, o := range tainted {
		if err := t.cancelOrders(ctx, teams[i], "its key is compromised", []liveOrder{o}); err != nil {
			return err
		}
		if _, err := t.newOrders(ctx, []orderSpec{{Certificate: o.certificate, Holder: o.holder, Origin: certctl.OriginAPI,
			Urgency: certctl.UrgencyNow, Reason: "revoked"}}); err != nil {
			return err
		}
	}
	return nil
}
