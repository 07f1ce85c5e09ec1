package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"time"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// open begins a conversation as the issuer's account, which is registered when it
// is not yet.
func (c *CA) open(ctx context.Context) (*session, identity, error) {
	name := c.issuer.ID.String() + " " + c.settings.Directory
	id, ok := c.identities.get(name)
	if !ok || !slices.Equal(id.Contact, c.contact()) {
		// One process at a time, so that all replicas have one account.
		err := c.store.LockedOnce(ctx, "external-account "+name, func(ctx context.Context) (err error) {
			id, err = c.account(ctx)
			return err
		})
		if err != nil {
			return nil, id, err
		}
		c.identities.put(name, id)
	}
	s, err := c.dial(ctx, id.URL, id.key)
	return s, id, err
}

// account reads the issuer's account, or makes it. Its key is stored before the
// CA hears of it: a registration whose answer was lost is found by the key.
func (c *CA) account(ctx context.Context) (identity, error) {
	a, err := c.store.ExternalAccount(ctx, c.issuer.ID, c.settings.Directory)
	if certctl.ErrorCode(err) == certctl.NotFound {
		a, err = c.newAccount(ctx)
	}
	if err != nil {
		return identity{}, err
	}
	id := identity{ExternalAccount: a}
	der, err := c.secrets.Open("external_account", a.ID, "sealed_key", a.SealedKey)
	if err == nil {
		id.key, err = accountKey(a, der)
	}
	if err != nil {
		return id, misconfigured(err, "the key of the account at %s cannot be opened: %s", c.settings.Directory, certctl.ErrorMessage(err))
	}
	if id.URL != "" && slices.Equal(id.Contact, c.contact()) {
		return id, nil
	}
	return c.register(ctx, id)
}

// accountKey reads a key of ours, or one that came with its account.
func accountKey(a certctl.ExternalAccount, der []byte) (crypto.Signer, error) {
	if !a.Given {
		return x509.ParseECPrivateKey(der)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, certctl.Errorf(certctl.Invalid, "a %T cannot sign", key)
	}
	return signer, nil
}

func (c *CA) newAccount(ctx context.Context) (certctl.ExternalAccount, error) {
	a := certctl.ExternalAccount{ID: certctl.NewID(time.Now()), Issuer: c.issuer.ID, Directory: c.settings.Directory}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return a, certctl.Wrap(certctl.Internal, err, "no account key can be made")
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return a, certctl.Wrap(certctl.Internal, err, "the account key cannot be encoded")
	}
	if a.SealedKey, err = c.secrets.Seal("external_account", a.ID, "sealed_key", der); err != nil {
		return a, err
	}
	return a, c.store.AddExternalAccount(ctx, a)
}

// register tells the CA of an account, or of its new contacts. A key that the CA
// knows already gives the account that it has.
func (c *CA) register(ctx context.Context, id identity) (identity, error) {
	s, err := c.dial(ctx, id.URL, id.key)
	if err != nil {
		return id, err
	}
	if id.Given && id.URL == "" {
		return c.find(ctx, s, id)
	}
	request := legoacme.Account{TermsOfServiceAgreed: c.settings.Terms, Contact: c.contact()}
	if id.URL != "" {
		_, err = s.Accounts.Update(id.URL, legoacme.Account{Contact: request.Contact})
	} else {
		kid, hmac, bad := c.binding(ctx)
		if bad != nil {
			return id, bad
		}
		var made legoacme.ExtendedAccount
		if kid != "" {
			made, err = s.Accounts.NewEAB(request, kid, hmac)
		} else {
			made, err = s.Accounts.New(request)
		}
		id.URL = made.Location
	}
	if err != nil {
		return id, s.transport.failed(err, "the CA does not register the account")
	}
	if id.URL == "" {
		return id, s.transport.failed(nil, "the CA names no account")
	}
	id.Contact = request.Contact
	return id, c.store.RegisterExternalAccount(ctx, id.ExternalAccount)
}

// find asks the CA which account a given key has, and for none to be made (RFC
// 8555 section 7.3.1). Contacts that the settings name become its contacts.
func (c *CA) find(ctx context.Context, s *session, id identity) (identity, error) {
	found, err := s.Accounts.New(legoacme.Account{OnlyReturnExisting: true})
	if err != nil {
		failure := s.transport.failed(err, "the CA does not know the account whose key was given")
		if failure.Code == "acme_accountDoesNotExist" {
			failure.Message = "the CA has no account with the key that was given as " + certctl.SecretAccountKey +
				": give the key of one that it has, or make an issuer without, which registers its own"
		}
		return id, failure
	}
	if found.Location == "" || found.Status != legoacme.StatusValid {
		return id, misconfigured(nil, "the account whose key was given is %q at the CA: make an issuer without %s, which registers its own",
			certctl.Clip(found.Status, 20), certctl.SecretAccountKey)
	}
	if contact := c.contact(); len(contact) > 0 && !slices.Equal(contact, found.Contact) {
		if _, err := s.Accounts.Update(found.Location, legoacme.Account{Contact: contact}); err != nil {
			return id, s.transport.failed(err, "the CA does not take the account's contacts")
		}
	}
	id.URL, id.Contact = found.Location, c.contact()
	return id, c.store.RegisterExternalAccount(ctx, id.ExternalAccount)
}

// contact is how the CA may write to people (RFC 8555 section 7.3).
func (c *CA) contact() []string {
	urls := make([]string, len(c.settings.Contact))
	for i, address := range c.settings.Contact {
		urls[i] = "mailto:" + address
	}
	return urls
}
