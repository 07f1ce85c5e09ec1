package store

import (
	"bytes"
	"context"
	"crypto/x509"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Authorities returns the authorities of an issuer, or all, oldest first.
func (s *Store) Authorities(ctx context.Context, issuer certctl.ID) ([]certctl.Authority, error) {
	var all []certctl.Authority
	err := s.read(ctx, func(t *tx) (err error) {
		all, err = t.authorities(ctx, `$1::uuid is null or a.issuer_id = $1`, issuer)
		return err
	})
	return all, err
}

// AuthorityByID returns one authority.
func (s *Store) AuthorityByID(ctx context.Context, id certctl.ID) (certctl.Authority, error) {
	var authority certctl.Authority
	err := s.read(ctx, func(t *tx) error {
		all, err := t.authorities(ctx, `a.id = $1`, id)
		if err == nil && len(all) == 0 {
			err = notFound("authority", id.String())
		}
		if err == nil {
			authority = all[0]
		}
		return err
	})
	return authority, err
}

func (t *tx) authorities(ctx context.Context, clause string, arg any) ([]certctl.Authority, error) {
	rows, err := t.Query(ctx, `
		select a.id, a.issuer_id, a.parent_id, a.state, a.certificate, chain.certs, a.key_uri, a.sealed_key, a.pki_url, a.shards,
			a.not_before, a.not_after, a.activate_at, a.created_at
		from authority a left join chain on chain.digest = a.chain_digest where `+clause+` order by a.id`, arg)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a certctl.Authority, err error) {
		return a, row.Scan(&a.ID, &a.Issuer, &a.Parent, &a.State, &a.Certificate, (*[][]byte)(&a.Chain), &a.KeyURI, &a.SealedKey,
			&a.PKIURL, &a.Shards, &a.NotBefore, &a.NotAfter, &a.ActivateAt, &a.CreatedAt)
	})
}

// AddAuthorities stores new authorities of issuers, parents first. Those that
// have a certificate get their first revocation lists at once. A second active
// issuing authority of an issuer is a Conflict.
func (s *Store) AddAuthorities(ctx context.Context, actor certctl.Actor, authorities []certctl.Authority) error {
	return s.write(ctx, actor, func(t *tx) error {
		for i, a := range authorities {
			if a.ID.IsZero() {
				a.ID = certctl.NewID(t.now).WithOrder(i)
			}
			if err := t.addAuthority(ctx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) addAuthority(ctx context.Context, a certctl.Authority) error {
	issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, a.Issuer.String())
	if err != nil {
		return err
	}
	root, err := readAuthority(&a)
	if err != nil {
		return err
	}
	digest, err := t.storeChain(ctx, a)
	if err != nil {
		return err
	}
	if _, err := t.Exec(ctx, `
		insert into authority (id, issuer_id, parent_id, state, is_root, certificate, chain_digest, key_uri, sealed_key, pki_url, shards,
			not_before, not_after, activate_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		a.ID, issuer.id, a.Parent, string(a.State), root, a.Certificate, digest, a.KeyURI, a.SealedKey, a.PKIURL, a.Shards,
		a.NotBefore, a.NotAfter, a.ActivateAt); err != nil {
		if conflictOn(err, "authority_active") {
			return certctl.Wrap(certctl.Conflict, err, "the issuer %s has an active authority already", issuer.name)
		}
		return err
	}
	t.event(issuer.team, certctl.AggregateIssuer, issuer.id, certctl.EventAuthorityCreated, map[string]any{
		"issuer": issuer.id, "name": issuer.name, "authority": a.ID, "state": a.State, "not_after": a.NotAfter,
	})
	if a.Certificate == nil {
		return nil
	}
	return t.markCRLDue(ctx, a.ID)
}

// readAuthority checks an authority's certificate, takes its validity from it
// and reports whether it is a root.
func readAuthority(a *certctl.Authority) (root bool, err error) {
	if len(a.Certificate) == 0 {
		a.Certificate = nil
		if a.State != certctl.AuthorityRequested {
			return false, certctl.Errorf(certctl.Invalid, "an authority without a certificate can only be requested")
		}
		return false, nil
	}
	parsed, err := x509.ParseCertificate(a.Certificate)
	if err != nil || !parsed.IsCA {
		return false, certctl.Wrap(certctl.Invalid, err, "this is not the certificate of a CA")
	}
	a.NotBefore, a.NotAfter = parsed.NotBefore.UTC(), parsed.NotAfter.UTC()
	return bytes.Equal(parsed.RawSubject, parsed.RawIssuer), nil
}

// storeChain stores an authority's chain once it has a certificate.
func (t *tx) storeChain(ctx context.Context, a certctl.Authority) (certctl.Digest, error) {
	if a.Certificate == nil {
		return certctl.Digest{}, nil
	}
	digest := a.Chain.Digest()
	return digest, t.storeChains(ctx, a.Chain)
}

// storeChains stores chains that are not stored yet, in the order of their
// digests, so that two transactions that store the same ones do not deadlock.
func (t *tx) storeChains(ctx context.Context, chains ...certctl.Chain) error {
	byDigest := make(map[string]certctl.Chain, len(chains))
	for _, chain := range chains {
		digest := chain.Digest()
		byDigest[string(digest[:])] = chain
	}
	for _, digest := range sortedKeys(byDigest) {
		certs := [][]byte(byDigest[digest])
		if certs == nil {
			certs = [][]byte{}
		}
		if err := t.put(ctx, `insert into chain (digest, certs) values ($1, $2) on conflict do nothing`, []byte(digest), certs); err != nil {
			return err
		}
	}
	return nil
}

// ActivateAuthority gives a requested authority its certificate. The issuer's
// former active one signs no more leaves; its lists live on.
func (s *Store) ActivateAuthority(ctx context.Context, actor certctl.Actor, id certctl.ID, certificate []byte, chain certctl.Chain) error {
	return s.write(ctx, actor, func(t *tx) error {
		a := certctl.Authority{ID: id, State: certctl.AuthorityActive, Certificate: certificate, Chain: chain}
		if err := t.QueryRow(ctx, `select issuer_id from authority where id = $1 for update`, id).Scan(&a.Issuer); err != nil {
			return orNotFound(err, "authority", id)
		}
		issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, a.Issuer.String())
		if err != nil {
			return err
		}
		if _, err := readAuthority(&a); err != nil {
			return err
		}
		digest, err := t.storeChain(ctx, a)
		if err != nil {
			return err
		}
		if err := t.put(ctx, `
			update authority set state = 'retiring' where issuer_id = $1 and state = 'active' and not is_root and id <> $2`, a.Issuer, id); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `
			update authority set state = 'active', certificate = $2, chain_digest = $3, not_before = $4, not_after = $5
			where id = $1 and state = 'requested'`, id, certificate, digest, a.NotBefore, a.NotAfter)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return certctl.Errorf(certctl.Conflict, "this authority has its certificate already")
		}
		t.event(issuer.team, certctl.AggregateIssuer, issuer.id, certctl.EventAuthorityActivated, map[string]any{
			"issuer": issuer.id, "name": issuer.name, "authority": id, "not_after": a.NotAfter,
		})
		return t.markCRLDue(ctx, id)
	})
}
