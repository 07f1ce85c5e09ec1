package store

import (
	"context"

	"github.com/certctl/certctl"
)

// SystemCertificate returns the newest version of one of the platform's own
// certificates, with its sealed key; NotFound before the first.
func (s *Store) SystemCertificate(ctx context.Context, name string) (version certctl.Version, sealedKey []byte, err error) {
	err = s.read(ctx, func(t *tx) error {
		var id certctl.ID
		err := t.QueryRow(ctx, `
			select h.version_id, h.sealed_key
			from certificate c join team on team.id = c.team_id join holder h on h.certificate_id = c.id
			where team.name = $1 and c.name = $2 and c.purpose = 'system' and c.archived_at is null and h.version_id is not null`,
			certctl.DefaultTeam, name).Scan(&id, &sealedKey)
		if err != nil {
			return err
		}
		all, err := t.versions(ctx, []certctl.ID{id})
		if err == nil {
			version = all[0]
		}
		return err
	})
	if certctl.ErrorCode(err) == certctl.NotFound {
		err = certctl.Errorf(certctl.NotFound, "the platform has no certificate %q yet", name)
	}
	return version, sealedKey, err
}

// RecordSystemVersion stores a new version of one of the platform's own
// certificates, which it makes at the first one. It is in the inventory like any
// other; its due row asks the signer, and nobody else, for the next version.
// A leaf that is stored already changes nothing.
func (s *Store) RecordSystemVersion(ctx context.Context, v certctl.SystemVersion) error {
	leaf, err := certctl.ParseLeaf(v.Leaf)
	if err != nil {
		return err
	}
	return s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error {
		if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("system/"+v.Name)); err != nil {
			return err
		}
		certificate, holder, revision, err := t.systemHolder(ctx, v)
		if err != nil {
			return err
		}
		if holder != v.Holder {
			return certctl.Errorf(certctl.Conflict, "the key of %s is sealed for another holder: somebody else was first", v.Name)
		}
		if err := t.storeChains(ctx, v.Chain); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		tag, err := t.Exec(ctx, `
			insert into version (id, certificate_id, holder_id, issuer_id, authority_id, revision, serial, fingerprint, spki, algorithm,
				not_before, not_after, leaf, chain_digest, origin, replaces, renew_at)
			select $1, $2, h.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'issued', h.version_id, $15 from holder h where h.id = $3
			on conflict (fingerprint) do nothing`,
			id, certificate, holder, v.Issuer, v.Authority, revision, string(leaf.Serial), leaf.Fingerprint, leaf.SPKI, string(leaf.Algorithm),
			leaf.NotBefore, leaf.NotAfter, v.Leaf, v.Chain.Digest(), v.RenewAt)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return t.systemVersion(ctx, v, leaf, certificate, holder, id)
	})
}

// systemHolder finds or makes the certificate and its only holder, and raises
// the revision when the names have changed.
func (t *tx) systemHolder(ctx context.Context, v certctl.SystemVersion) (certificate, holder certctl.ID, revision int64, err error) {
	certificate, holder = certctl.NewID(t.now), v.Holder
	if _, err = t.Exec(ctx, `
		insert into certificate (id, team_id, name, purpose, profile_id, policy_id, key_mode, status)
		select $1, team.id, $2, 'system', profile.id, renewal_policy.id, 'csr', 'pending'
		from team join profile on profile.team_id = team.id and profile.name = $4
		join renewal_policy on renewal_policy.team_id = team.id and renewal_policy.name = $5
		where team.name = $3 order by profile.archived_at nulls first, renewal_policy.archived_at nulls first limit 1
		on conflict (team_id, name) where archived_at is null do nothing`,
		certificate, v.Name, certctl.DefaultTeam, defaultProfile, defaultPolicy); err != nil {
		return
	}
	var purpose certctl.VersionPurpose
	if err = t.QueryRow(ctx, `
		update certificate c set dns = $3, ips = $4, uris = $5, emails = $6, issuers = array[$7::uuid], updated_at = now(),
			revision = revision + (exists (select from holder where certificate_id = c.id)
				and (dns, ips, uris, emails) is distinct from ($3::text[], $4::inet[], $5::text[], $6::text[]))::int
		from team where team.id = c.team_id and team.name = $1 and c.name = $2 and c.archived_at is null
		returning c.id, c.purpose, c.revision`, certctl.DefaultTeam, v.Name,
		some(v.Names.DNS), some(v.Names.IP), some(v.Names.URI), some(v.Names.Email), v.Issuer).Scan(&certificate, &purpose, &revision); err != nil {
		return
	}
	if purpose != certctl.PurposeSystem {
		return certificate, holder, revision, certctl.Errorf(certctl.Conflict, "somebody has named a certificate %q, as the platform's own is", v.Name).
			WithRemedy("archive that certificate and submit it under another name")
	}
	err = t.QueryRow(ctx, `
		insert into holder (id, certificate_id, kind) values ($1, $2, 'client')
		on conflict (certificate_id, kind, agent_id) do update set ended_at = null returning id`, holder, certificate).Scan(&holder)
	return certificate, holder, revision, err
}

func (t *tx) systemVersion(ctx context.Context, v certctl.SystemVersion, leaf certctl.Leaf, certificate, holder, id certctl.ID) error {
	if err := t.put(ctx, `update holder set version_id = $2, sealed_key = $3 where id = $1`, holder, id, v.SealedKey); err != nil {
		return err
	}
	if err := t.due(ctx, dueRow{kind: dueSystem, id: certificate, verb: certctl.HintSystem, at: v.RenewAt, urgency: certctl.UrgencyNow}); err != nil {
		return err
	}
	t.event(certctl.DefaultTeam, certctl.AggregateCertificate, certificate, certctl.EventCertificateIssued, map[string]any{
		"certificate": certificate, "name": v.Name, "version": id, "serial": leaf.Serial, "fingerprint": leaf.Fingerprint,
		"not_after": leaf.NotAfter, "issuer": v.Issuer, "purpose": certctl.PurposeSystem, "authority": v.Authority, "spki": leaf.SPKI,
	})
	return t.refreshStatus(ctx, certificate)
}
