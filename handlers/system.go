package handlers

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/rs/zerolog"
)

// SystemStore keeps the platform's own certificates.
type SystemStore interface {
	LockedOnce(ctx context.Context, name string, once func(context.Context) error) error
	SystemCertificate(ctx context.Context, name string) (certctl.Version, []byte, error)
	RecordSystemVersion(ctx context.Context, version certctl.SystemVersion) error
	Now(ctx context.Context) (time.Time, error)
}

// SystemCertificate is a TLS certificate of the platform's own: in the
// inventory like all others, signed by the CA's engine directly since it is
// needed before there is a bus, renewed by the sweep and reloaded without a
// restart. Its key is sealed in the database, so that replicas share it.
type SystemCertificate struct {
	name      string
	names     certctl.Names
	issuer    certctl.ID
	authority *ca.Authority
	root      []byte // DER; agents look for it in the chain when they enrol
	store     SystemStore
	sealer    Sealer
	log       zerolog.Logger
	current   atomic.Pointer[tls.Certificate]
}

// NewSystemCertificate describes a certificate; Ensure makes or opens it.
func NewSystemCertificate(name string, names certctl.Names, issuer certctl.ID, authority *ca.Authority, root []byte, store SystemStore, sealer Sealer, log zerolog.Logger) *SystemCertificate {
	return &SystemCertificate{
		name: name, names: names, issuer: issuer, authority: authority, root: root, store: store, sealer: sealer, log: log,
	}
}

// systemValidity is the life of a system certificate.
const systemValidity = 90 * certctl.Day

// Get is the GetCertificate of a tls.Config.
func (s *SystemCertificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := s.current.Load(); current != nil {
		return current, nil
	}
	return nil, certctl.Errorf(certctl.Unavailable, "the certificate %s is not there yet", s.name)
}

// Ensure takes over the newest version that another replica has made, or makes
// one when there is none, it is due, or it lacks a name that is needed here.
// Names only grow: replicas at different addresses share the certificate.
func (s *SystemCertificate) Ensure(ctx context.Context) error {
	return s.store.LockedOnce(ctx, "system-"+s.name, func(ctx context.Context) error {
		now, err := s.store.Now(ctx)
		if err != nil {
			return err
		}
		version, sealed, err := s.store.SystemCertificate(ctx, s.name)
		if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
			return err
		}
		names, holder := s.names, certctl.NewID(now)
		if err == nil {
			holder = version.Holder
			leaf, err := certctl.ParseLeaf(version.Leaf)
			if err != nil {
				return err
			}
			names = union(leaf.Names, s.names)
			if names.Equal(leaf.Names) && now.Before(version.RenewAt) && version.RevokedAt.IsZero() {
				return s.take(version, sealed)
			}
		}
		return s.make(ctx, names, holder, now)
	})
}

// take opens the key of a stored version and serves with it.
func (s *SystemCertificate) take(version certctl.Version, sealed []byte) error {
	encoded, err := s.sealer.Open("holder", version.Holder, "sealed_key", sealed)
	if err != nil {
		return err
	}
	key, err := ca.ParseKey(encoded)
	if err != nil {
		return err
	}
	s.serve(version.Leaf, version.Chain, key)
	return nil
}

func (s *SystemCertificate) serve(leaf []byte, chain certctl.Chain, key crypto.Signer) {
	s.current.Store(&tls.Certificate{Certificate: append(append([][]byte{leaf}, chain...), s.root), PrivateKey: key})
}

// make signs a new version, records it and serves with it. The key is sealed for
// the certificate's holder, the same one for ever.
func (s *SystemCertificate) make(ctx context.Context, names certctl.Names, holder certctl.ID, now time.Time) error {
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		return err
	}
	csr, err := selfRequest(key)
	if err != nil {
		return err
	}
	profile := certctl.DefaultProfile()
	profile.Validity = certctl.Duration(systemValidity)
	prepared, err := s.authority.Prepare(ca.Request{
		Names: names, SPKI: csr.RawSubjectPublicKeyInfo, Profile: profile, Serial: certctl.SerialOf(ca.NewSerial()), At: now,
	})
	if err != nil {
		return err
	}
	leaf, _, err := prepared.Sign()
	if err != nil {
		return err
	}
	issued := certctl.Issued{Leaf: leaf, Chain: s.authority.Chain}
	facts, err := issued.Check(certctl.Order{CSR: csr.Raw, Names: names})
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the key of %s cannot be encoded", s.name)
	}
	version := certctl.SystemVersion{
		Name: s.name, Names: names, Leaf: leaf, Chain: s.authority.Chain, Issuer: s.issuer, Authority: s.authority.ID,
		Holder: holder,
	}
	version.RenewAt, _ = certctl.RenewAt(facts.NotBefore, facts.NotAfter, certctl.DefaultRenewalPolicy(), 0)
	if version.SealedKey, err = s.sealer.Seal("holder", version.Holder, "sealed_key", encoded); err != nil {
		return err
	}
	if err := s.store.RecordSystemVersion(ctx, version); err != nil {
		return err
	}
	s.serve(leaf, s.authority.Chain, key)
	s.log.Info().Str("certificate", s.name).Strs("names", names.Strings()).Time("not_after", facts.NotAfter).Msg("system certificate made")
	return nil
}

// selfRequest is a CSR of a key of our own, for the engine's sake.
func selfRequest(key crypto.Signer) (*x509.CertificateRequest, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no CSR can be made")
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the CSR cannot be read back")
	}
	return csr, nil
}

func union(a, b certctl.Names) certctl.Names {
	names := certctl.Names{
		DNS: slices.Concat(a.DNS, b.DNS), IP: slices.Concat(a.IP, b.IP),
		URI: slices.Concat(a.URI, b.URI), Email: slices.Concat(a.Email, b.Email),
	}
	clean, err := names.Normalize()
	if err != nil {
		return b // both were normalised: only their number can be too large
	}
	return clean
}
