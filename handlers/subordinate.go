package handlers

import (
	"context"
	"crypto"
	"crypto/x509"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// SubordinateStore also gives authorities their certificates.
type SubordinateStore interface {
	AuthorityStore
	ActivateAuthority(ctx context.Context, actor certctl.Actor, id certctl.ID, certificate []byte, chain certctl.Chain) error
}

// Subordinates make a local issuer a subordinate of a foreign CA: a request goes
// out, a certificate comes back. The private key stays here, sealed.
type Subordinates struct {
	authorities *Authorities
	store       SubordinateStore
}

// NewSubordinates returns them for the authorities of an installation.
func NewSubordinates(authorities *Authorities, store SubordinateStore) *Subordinates {
	return &Subordinates{authorities: authorities, store: store}
}

// Request returns the PKCS #10 request of an issuer's next authority. Asking
// again before it is installed gives a request for the same key.
func (s *Subordinates) Request(ctx context.Context, issuer certctl.ID, options ca.Options) ([]byte, error) {
	if err := s.authorities.published(); err != nil {
		return nil, err
	}
	var request []byte
	err := s.store.LockedOnce(ctx, "authority-"+issuer.String(), func(ctx context.Context) error {
		key, err := s.requested(ctx, issuer)
		if err == nil && key == nil {
			key, err = s.make(ctx, issuer, options)
		}
		if err == nil {
			request, err = options.Request(key)
		}
		return err
	})
	return request, err
}

// requested returns the key of an authority that waits for its certificate, or nil.
func (s *Subordinates) requested(ctx context.Context, issuer certctl.ID) (crypto.Signer, error) {
	all, err := s.store.Authorities(ctx, issuer)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.State == certctl.AuthorityRequested {
			return s.authorities.openKey(a)
		}
	}
	return nil, nil
}

func (s *Subordinates) make(ctx context.Context, issuer certctl.ID, options ca.Options) (crypto.Signer, error) {
	key, err := ca.NewKey(options)
	if err != nil {
		return nil, err
	}
	now, err := s.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	stored := certctl.Authority{
		ID: certctl.NewID(now), Issuer: issuer, State: certctl.AuthorityRequested,
		KeyURI: "file:", PKIURL: s.authorities.pkiURL, Shards: crlShards, CreatedAt: now,
	}
	if stored.SealedKey, err = s.authorities.seal(stored.ID, key); err != nil {
		return nil, err
	}
	return key, s.store.AddAuthorities(ctx, certctl.SystemActor("ca request"), []certctl.Authority{stored})
}

// Install gives the requested authority its certificate: from now on it signs
// the issuer's leaves. answer is the certificate with all above it, the root
// last. The root is stored, too, so that agents learn to trust it.
func (s *Subordinates) Install(ctx context.Context, issuer certctl.ID, answer []*x509.Certificate) (certctl.ID, error) {
	now, err := s.store.Now(ctx)
	if err != nil {
		return certctl.NoID, err
	}
	checked, err := ca.CheckSubordinate(answer, now)
	if err != nil {
		return certctl.NoID, err
	}
	all, err := s.store.Authorities(ctx, issuer)
	if err != nil {
		return certctl.NoID, err
	}
	waiting, known := certctl.NoID, false
	for _, a := range all {
		known = known || string(a.Certificate) == string(checked.Root.Raw)
		if a.State != certctl.AuthorityRequested {
			continue
		}
		key, err := s.authorities.openKey(a)
		if err != nil {
			return certctl.NoID, err
		}
		if mine, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && mine.Equal(answer[0].PublicKey) {
			waiting = a.ID
		}
	}
	if waiting.IsZero() {
		return waiting, certctl.Errorf(certctl.Invalid, "no request waits for a certificate with this key").
			WithRemedy("certctl-server ca request makes one")
	}
	actor := certctl.SystemActor("ca install")
	if !known {
		root := certctl.Authority{
			ID: certctl.NewID(now), Issuer: issuer, State: certctl.AuthorityActive, Certificate: checked.Root.Raw,
			KeyURI: "none:", PKIURL: s.authorities.pkiURL, CreatedAt: now,
		}
		if err := s.store.AddAuthorities(ctx, actor, []certctl.Authority{root}); err != nil {
			return waiting, err
		}
	}
	return waiting, s.store.ActivateAuthority(ctx, actor, waiting, answer[0].Raw, checked.Chain)
}
