package handlers

import (
	"context"
	"crypto"
	"crypto/x509"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// AuthorityStore keeps CA certificates and their sealed keys.
type AuthorityStore interface {
	LockedOnce(ctx context.Context, name string, once func(context.Context) error) error
	Authorities(ctx context.Context, issuer certctl.ID) ([]certctl.Authority, error)
	AddAuthorities(ctx context.Context, actor certctl.Actor, authorities []certctl.Authority) error
	Now(ctx context.Context) (time.Time, error)
}

// Authorities makes and opens the authorities of local issuers. Only the signer
// has it.
type Authorities struct {
	Linter *ca.Linter       // of all leaves; nil: one that takes nothing from one leaf to the next
	Clock  func() time.Time // nil: time.Now

	store  AuthorityStore
	sealer Sealer
	pkiURL string

	mutex   sync.Mutex
	signing map[certctl.ID]signing // by issuer
}

// signing is an issuer's active authority with its key, as long as nothing of the
// issuer's authorities changes.
type signing struct {
	authority *ca.Authority
	rows      []certctl.Authority
	used      time.Time
}

// signingIdle is how long a key stays open that nobody signs with, such as that of an
// issuer that was archived. It is closed when any issuer's is asked for after that.
const signingIdle = 10 * time.Minute

// NewAuthorities returns the authorities of an installation. pkiURL is where
// CA certificates and revocation lists are published; it stands in every leaf.
func NewAuthorities(store AuthorityStore, sealer Sealer, pkiURL string) *Authorities {
	return &Authorities{store: store, sealer: sealer, pkiURL: pkiURL, signing: map[certctl.ID]signing{}}
}

// crlShards is over how many lists an authority spreads its revocations.
const crlShards = 128

// Active returns the authority that signs an issuer's leaves. An issuer without
// one gets a root and an issuing CA; replicas that ask together make them once.
//
// It is asked for with each hint. Opening a key and proving that it is the right one
// costs as much as some leaves, and what is opened here was opened to sign: it stays
// open until a row of the issuer's authorities changes, or nobody has asked for a while.
func (a *Authorities) Active(ctx context.Context, issuer certctl.ID, options ca.Options) (*ca.Authority, error) {
	all, err := a.store.Authorities(ctx, issuer)
	if err != nil {
		return nil, err
	}
	if authority := a.held(issuer, all); authority != nil {
		return authority, nil
	}
	stored := active(all)
	if stored == nil {
		err := a.store.LockedOnce(ctx, "authority-"+issuer.String(), func(ctx context.Context) error {
			if all, err = a.store.Authorities(ctx, issuer); err != nil {
				return err
			}
			if stored = active(all); stored == nil {
				stored, err = a.make(ctx, issuer, options)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	authority, err := a.Open(*stored)
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.signing[issuer] = signing{authority, all, a.now()}
	return authority, nil
}

// held returns the authority that was opened, if its rows are those of then.
func (a *Authorities) held(issuer certctl.ID, rows []certctl.Authority) *ca.Authority {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	now := a.now()
	maps.DeleteFunc(a.signing, func(_ certctl.ID, s signing) bool { return now.Sub(s.used) > signingIdle })
	held, ok := a.signing[issuer]
	if !ok || !reflect.DeepEqual(held.rows, rows) {
		delete(a.signing, issuer) // its key may have been taken from us
		return nil
	}
	held.used = now
	a.signing[issuer] = held
	return held.authority
}

func (a *Authorities) now() time.Time {
	if a.Clock != nil {
		return a.Clock()
	}
	return time.Now()
}

func active(all []certctl.Authority) *certctl.Authority {
	for i := range all {
		if all[i].State == certctl.AuthorityActive && !IsRoot(all[i]) {
			return &all[i]
		}
	}
	return nil
}

// IsRoot reports whether an authority is a root that this installation made:
// it signs issuing CAs and its own list, and no leaves.
func IsRoot(a certctl.Authority) bool {
	certificate, err := x509.ParseCertificate(a.Certificate)
	return err == nil && certificate.CheckSignatureFrom(certificate) == nil
}

// Open returns an authority with its key.
func (a *Authorities) Open(stored certctl.Authority) (*ca.Authority, error) {
	key, err := a.openKey(stored)
	if err != nil {
		return nil, err
	}
	authority, err := ca.Load(stored, key)
	if err != nil {
		return nil, err
	}
	authority.Linter = a.Linter
	return authority, nil
}

func (a *Authorities) openKey(stored certctl.Authority) (crypto.Signer, error) {
	if len(stored.SealedKey) == 0 {
		return nil, certctl.Errorf(certctl.Unavailable, "the key of authority %s is not here", stored.ID).
			WithRemedy("it is off line: sign there")
	}
	encoded, err := a.sealer.Open("authority", stored.ID, "sealed_key", stored.SealedKey)
	if err != nil {
		return nil, err
	}
	return ca.ParseKey(encoded)
}

// published refuses to make an authority whose leaves could say nowhere where
// its revocation lists are.
func (a *Authorities) published() error {
	if a.pkiURL != "" {
		return nil
	}
	return certctl.Errorf(certctl.Invalid, "the URL of CA certificates and revocation lists is not set").
		WithRemedy("set CERTCTL_PKI_URL: it stands in every certificate and cannot be changed for this CA afterwards")
}

// make makes a root and an issuing CA and stores both.
func (a *Authorities) make(ctx context.Context, issuer certctl.ID, options ca.Options) (*certctl.Authority, error) {
	if err := a.published(); err != nil {
		return nil, err
	}
	now, err := a.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	root, err := ca.NewRoot(options, now)
	if err != nil {
		return nil, err
	}
	storedRoot, err := a.record(issuer, root, now)
	if err != nil {
		return nil, err
	}
	issuing, err := ca.NewIssuing(options, root, ca.URL(a.pkiURL, storedRoot.ID), now)
	if err != nil {
		return nil, err
	}
	storedIssuing, err := a.record(issuer, issuing, now)
	if err != nil {
		return nil, err
	}
	storedIssuing.Parent, storedIssuing.Chain = storedRoot.ID, certctl.Chain{issuing.Certificate.Raw}
	if err := a.store.AddAuthorities(ctx, certctl.SystemActor("signer"), []certctl.Authority{storedRoot, storedIssuing}); err != nil {
		return nil, err
	}
	return &storedIssuing, nil
}

// record is the row of a new authority, its key sealed for it.
func (a *Authorities) record(issuer certctl.ID, made ca.Made, now time.Time) (certctl.Authority, error) {
	stored := certctl.Authority{
		ID: certctl.NewID(now), Issuer: issuer, State: certctl.AuthorityActive, Certificate: made.Certificate.Raw,
		KeyURI: "file:", PKIURL: a.pkiURL, Shards: crlShards,
		NotBefore: made.Certificate.NotBefore, NotAfter: made.Certificate.NotAfter, CreatedAt: now,
	}
	var err error
	stored.SealedKey, err = a.seal(stored.ID, made.Key)
	return stored, err
}

func (a *Authorities) seal(id certctl.ID, key crypto.Signer) ([]byte, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the CA key cannot be encoded")
	}
	return a.sealer.Seal("authority", id, "sealed_key", encoded)
}
