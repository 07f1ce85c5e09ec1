package bus

import (
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

// Pusher is the name of the system account's one user, as PusherCredentials
// gives it; its inboxes are InboxPrefix(Pusher).
const Pusher = "pusher"

// AgentJWT returns what an agent logs in with, together with its bus key: valid
// from now for life, which is UserLife give or take a random fifth, so that a
// fleet does not renew at once. It permits what agentTemplate says, under the
// agent's own id.
//
// A key that was retired must never be signed again, whoever asks: the broker
// refuses a retired key for MaxUserLife only, since everything signed before has
// expired by then. Keeping that is the caller's duty, in the transaction in which
// it reads that the agent is not retired.
func AgentJWT(i *Identity, agent certctl.ID, busKey string, now time.Time, life time.Duration) (string, error) {
	if life <= 0 || life > MaxUserLife {
		return "", certctl.Errorf(certctl.Internal, "credentials for %s are not given: more than 0 and at most %s", life, MaxUserLife)
	}
	return userJWT(user{
		signer: i.pairs[keyAgent], account: i.Account(AccountAgents), name: agent.String(), public: busKey, issued: now, expires: now.Add(life),
	})
}

// ReaderCredentials returns the text of a credentials file with which a reader
// fetches events until it expires. They can be made again from the reader's id;
// so, as with agents, the caller never asks for a revoked one.
func ReaderCredentials(i *Identity, reader certctl.Reader, now time.Time) (string, error) {
	if !reader.RevokedAt.IsZero() || !now.Before(reader.ExpiresAt) {
		return "", certctl.Errorf(certctl.Gone, "reader %s has expired or is revoked", reader.Name).
			WithRemedy("make a new reader")
	}
	keys, err := i.reader(reader.ID)
	if err != nil {
		return "", err
	}
	return credentials(keys.login, user{
		signer: keys.signing, account: publicKey(keys.account), name: reader.ID.String(), issued: now, expires: reader.ExpiresAt,
	})
}

// PlatformCredentials returns the text of a credentials file with which a process
// does the work of a role on the bus. Each call makes another key. They do not
// expire by themselves; replacing the role's signing key ends them.
func PlatformCredentials(i *Identity, role Role, now time.Time) (string, error) {
	if _, err := roleTemplate(role); err != nil {
		return "", err
	}
	return newCredentials(user{signer: i.pairs[roleKey(role)], account: i.Account(AccountPlatform), name: string(role), issued: now})
}

// PusherCredentials returns the text of a credentials file with which the signer
// hands account documents to an external broker, and can do nothing else.
func PusherCredentials(i *Identity, now time.Time) (string, error) {
	return newCredentials(user{signer: i.pairs[keyPusher], account: i.Account(AccountSystem), name: Pusher, issued: now})
}

// Expiry returns when a user's JWT ends by itself, or zero if it does not. It
// verifies no signature: it is for the holder, who wants to know when to renew.
func Expiry(userJWT string) (time.Time, error) {
	claims, err := jwt.DecodeUserClaims(userJWT)
	if err != nil {
		return time.Time{}, certctl.Wrap(certctl.Invalid, err, "these are not credentials for the bus")
	}
	if claims.Expires == 0 {
		return time.Time{}, nil
	}
	return time.Unix(claims.Expires, 0).UTC(), nil
}

// ParseCredentials returns the JWT and the seed in the text of a credentials
// file.
func ParseCredentials(text []byte) (userJWT string, seed []byte, err error) {
	userJWT, err = jwt.ParseDecoratedJWT(text)
	if err != nil {
		return "", nil, certctl.Wrap(certctl.Invalid, err, "this is not a credentials file")
	}
	if _, err := jwt.DecodeUserClaims(userJWT); err != nil {
		return "", nil, certctl.Wrap(certctl.Invalid, err, "this is not a credentials file")
	}
	pair, err := jwt.ParseDecoratedUserNKey(text)
	if err != nil {
		// The library's error could quote the seed.
		return "", nil, certctl.Errorf(certctl.Invalid, "the credentials file has no usable key")
	}
	seed, err = pair.Seed()
	if err != nil {
		return "", nil, certctl.Errorf(certctl.Invalid, "the credentials file has no usable key")
	}
	return userJWT, seed, nil
}

// user is somebody who may log in.
type user struct {
	signer  nkeys.KeyPair // scoped: what he may do
	account string        // public nkey
	name    string        // what stands in place of {{name()}}
	public  string        // user nkey
	issued  time.Time
	expires time.Time // zero: never
}

// userJWT signs a user's JWT. It holds no permissions of its own: those are in
// the account's document, under the key that signed.
func userJWT(u user) (string, error) {
	if err := checkName(u.name); err != nil {
		return "", err
	}
	if !nkeys.IsValidPublicUserKey(u.public) {
		return "", certctl.InvalidField("/bus_key", "%q is not the public key of a bus user", certctl.Clip(u.public, 60))
	}
	claims := jwt.NewUserClaims(u.public)
	claims.SetScoped(true)
	claims.Name = u.name
	claims.IssuerAccount = u.account
	if !u.expires.IsZero() {
		claims.Expires = u.expires.Unix()
	}
	token, err := encodeClaims(claims, u.signer, u.issued)
	if err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "signing the credentials of %s", u.name)
	}
	return token, nil
}

// checkName refuses every name that would not be one token of a subject: in a
// scoped template, * and > would stand for everybody. Only ids, a role and the
// pusher are names.
func checkName(name string) error {
	if id, err := certctl.ParseID(name); err == nil && !id.IsZero() && id.String() == name {
		return nil
	}
	if name == Pusher {
		return nil
	}
	for _, role := range Roles {
		if name == string(role) {
			return nil
		}
	}
	return certctl.Errorf(certctl.Internal, "%q cannot be the name of a bus user", certctl.Clip(name, 60)).
		WithRemedy("a bus user is named by an id or is one of %s", strings.Join(append(roleNames(), Pusher), ", "))
}

// newCredentials makes a key pair and its credentials.
func newCredentials(u user) (string, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "making a bus key for %s", u.name)
	}
	return credentials(pair, u)
}

func credentials(pair nkeys.KeyPair, u user) (string, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "reading the bus key of %s", u.name)
	}
	u.public = public
	token, err := userJWT(u)
	if err != nil {
		return "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "reading the bus key of %s", u.name)
	}
	text, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		return "", certctl.Wrap(certctl.Internal, err, "writing the credentials of %s", u.name)
	}
	return string(text), nil
}

// InboxPrefixOf returns the only inbox prefix that a user may listen on, from
// the user's document: the one of its name.
func InboxPrefixOf(userJWT string) (string, error) {
	claims, err := jwt.DecodeUserClaims(userJWT)
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "these bus credentials cannot be read")
	}
	return InboxPrefix(claims.Name), nil
}
