package bus

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

// Names of the accounts. Users of different accounts cannot reach each other's
// subjects except through the exports and imports in account.go.
const (
	AccountSystem   = "SYS"     // the broker's own
	AccountPlatform = "CERTCTL" // the server roles; the only one with JetStream
	AccountAgents   = "AGENTS"  // nodes
	AccountEvents   = "EVENTS"  // downstream readers: EVENTS-<id>, one for each
)

// identityVersion is the format of MarshalBinary.
const identityVersion = 1

// keyName names one key pair of an Identity.
type keyName string

const (
	keyOperator        keyName = "operator"
	keyOperatorSigning keyName = "operator-signing"
	keyAgent           keyName = "agent"   // scoped: users of AGENTS
	keyPusher          keyName = "pusher"  // scoped: the one kind of user of SYS
	keyReaders         keyName = "readers" // signs nothing: each reader's keys are derived from it
)

// identityKeys is every key pair of an Identity and its kind: the operator's
// two, one for each account, and one scoped signing key for each kind of user.
// Operator and account keys sign nothing but the documents that name the
// signing keys, so that a signing key can be replaced alone.
func identityKeys() map[keyName]nkeys.PrefixByte {
	keys := map[keyName]nkeys.PrefixByte{
		keyOperator:        nkeys.PrefixByteOperator,
		keyOperatorSigning: nkeys.PrefixByteOperator,
		keyAgent:           nkeys.PrefixByteAccount,
		keyPusher:          nkeys.PrefixByteAccount,
		keyReaders:         nkeys.PrefixByteAccount,
	}
	for _, account := range []string{AccountSystem, AccountPlatform, AccountAgents} {
		keys[accountKey(account)] = nkeys.PrefixByteAccount
	}
	for _, role := range Roles {
		keys[roleKey(role)] = nkeys.PrefixByteAccount
	}
	return keys
}

func accountKey(account string) keyName { return keyName("account-" + account) }
func roleKey(role Role) keyName         { return keyName("role-" + role) }

// Identity is every private key that decides who may log in to the bus and do
// what there. It is made once per installation, kept sealed, and opened by the
// signer only. It is immutable and safe for concurrent use.
type Identity struct {
	created time.Time
	pairs   map[keyName]nkeys.KeyPair
}

// identityFile is what MarshalBinary writes.
type identityFile struct {
	Version int                `json:"version"`
	Created time.Time          `json:"created"`
	Seeds   map[keyName]string `json:"seeds"`
}

// NewIdentity makes every key pair anew. The operator's document is dated now.
func NewIdentity(now time.Time) (*Identity, error) {
	identity := &Identity{created: now.UTC().Truncate(time.Second), pairs: make(map[keyName]nkeys.KeyPair)}
	for name, prefix := range identityKeys() {
		pair, err := nkeys.CreatePair(prefix)
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "making the bus key %s", name)
		}
		identity.pairs[name] = pair
	}
	return identity, nil
}

// MarshalBinary returns all seeds in the clear: the caller seals them.
func (i *Identity) MarshalBinary() ([]byte, error) {
	file := identityFile{Version: identityVersion, Created: i.created, Seeds: make(map[keyName]string, len(i.pairs))}
	for name, pair := range i.pairs {
		seed, err := pair.Seed()
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "reading the seed of the bus key %s", name)
		}
		file.Seeds[name] = string(seed)
	}
	return json.Marshal(file)
}

// ParseIdentity reads what MarshalBinary wrote. It refuses any other set of
// keys: signing with half an identity would lock out the other half's users.
func ParseIdentity(data []byte) (*Identity, error) {
	var file identityFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		// The decoder's error could quote a seed, so it is not passed on.
		return nil, certctl.Errorf(certctl.Invalid, "this is not a bus identity")
	}
	if file.Version != identityVersion {
		return nil, certctl.Errorf(certctl.Invalid, "the bus identity has format %d, this release knows %d", file.Version, identityVersion).
			WithRemedy("run the release that wrote it, or a newer one")
	}
	wanted := identityKeys()
	if len(file.Seeds) != len(wanted) {
		return nil, certctl.Errorf(certctl.Invalid, "the bus identity has %d keys instead of %d", len(file.Seeds), len(wanted))
	}
	identity := &Identity{created: file.Created, pairs: make(map[keyName]nkeys.KeyPair, len(wanted))}
	for name, prefix := range wanted {
		pair, err := parseSeed(file.Seeds[name], prefix)
		if err != nil {
			return nil, certctl.Errorf(certctl.Invalid, "the bus identity has no usable key %s", name)
		}
		identity.pairs[name] = pair
	}
	return identity, nil
}

func parseSeed(seed string, prefix nkeys.PrefixByte) (nkeys.KeyPair, error) {
	found, _, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		return nil, err
	}
	if found != prefix {
		return nil, nkeys.ErrInvalidPrefixByte
	}
	return nkeys.FromSeed([]byte(seed))
}

// Operator returns the operator's public key, which names this identity.
func (i *Identity) Operator() string { return i.public(keyOperator) }

// Account returns the public key of SYS, CERTCTL or AGENTS, or "".
func (i *Identity) Account(name string) string { return i.public(accountKey(name)) }

func (i *Identity) public(name keyName) string { return publicKey(i.pairs[name]) }

// readerKeys are the key pairs of one reader.
type readerKeys struct {
	account nkeys.KeyPair
	signing nkeys.KeyPair // scoped: the users of account
	login   nkeys.KeyPair
}

// reader derives a reader's keys from its id. So a reader can be revoked and its
// account described by its row alone: no list of keys is kept that could be lost.
func (i *Identity) reader(id certctl.ID) (readerKeys, error) {
	var keys readerKeys
	for _, key := range []struct {
		pair    *nkeys.KeyPair
		prefix  nkeys.PrefixByte
		purpose string
	}{
		{&keys.account, nkeys.PrefixByteAccount, "certctl/v1/reader-account"},
		{&keys.signing, nkeys.PrefixByteAccount, "certctl/v1/reader-signing"},
		{&keys.login, nkeys.PrefixByteUser, "certctl/v1/reader-login"},
	} {
		pair, err := i.derive(key.prefix, key.purpose, id)
		if err != nil {
			return readerKeys{}, certctl.Wrap(certctl.Internal, err, "deriving the keys of reader %s", id)
		}
		*key.pair = pair
	}
	return keys, nil
}

func (i *Identity) derive(prefix nkeys.PrefixByte, purpose string, id certctl.ID) (nkeys.KeyPair, error) {
	seed, err := i.pairs[keyReaders].Seed()
	if err != nil {
		return nil, err
	}
	_, secret, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, err
	}
	raw, err := hkdf.Key(sha256.New, secret, id[:], purpose, 32)
	if err != nil {
		return nil, err
	}
	return nkeys.FromRawSeed(prefix, raw)
}

// publicKey returns a pair's public key, or "" for none.
func publicKey(pair nkeys.KeyPair) string {
	if pair == nil {
		return ""
	}
	public, err := pair.PublicKey()
	if err != nil {
		return "" // only a wiped pair has none, and nothing wipes ours
	}
	return public
}
