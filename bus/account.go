package bus

import (
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

// Lives of users. An agent's credentials end by themselves after at most
// MaxUserLife; so a retired agent's key is named in the account document for that
// long, and no longer.
const (
	UserLife    = 3 * 24 * time.Hour // what an agent is given, ± 20 %
	MaxUserLife = 4 * 24 * time.Hour
)

// MaxDocument bounds an account document in bytes: it must fit into one message
// (brokers that `bus init` configures take 8 MiB). That is room for 60,000
// agents retired within MaxUserLife.
const MaxDocument = 7 << 20

// documentSchema rises with every change of what accounts export, import or
// permit, so that an older release does not undo what a newer one pushed.
const documentSchema = 1

// Tags of a document: what PushAccounts compares.
const (
	tagSchema  = "certctl-schema:"
	tagVersion = "certctl-version:"
)

// Facts is what account documents are derived from, read in one transaction.
// The same identity and facts give the same documents, byte for byte, on every
// replica.
type Facts struct {
	// Version rises with every change of the other facts: microseconds since 1970,
	// of the newest change. It dates the documents.
	Version int64
	// Retired are the bus keys of agents that must not log in any more. Those that
	// retired more than MaxUserLife before Version may be left out.
	Retired []certctl.RetiredAgent
	// Readers are all that are neither expired nor revoked, and those that were
	// revoked before they expired.
	Readers []certctl.Reader
}

func (f Facts) at() time.Time { return time.UnixMicro(f.Version).UTC() }

// AccountJWT is the signed document of one account: public, and valid until a
// newer one takes its place.
type AccountJWT struct {
	Name string // SYS, CERTCTL, AGENTS or EVENTS
	Key  string // the account's public nkey
	JWT  string
}

// OperatorJWT returns the operator's document, which a broker trusts. It never
// changes: accounts are signed by the operator's signing key alone.
func OperatorJWT(i *Identity) (string, error) {
	claims := jwt.NewOperatorClaims(i.Operator())
	claims.Name = "certctl"
	claims.SigningKeys.Add(i.public(keyOperatorSigning))
	claims.SystemAccount = i.Account(AccountSystem)
	claims.StrictSigningKeyUsage = true
	return encodeClaims(claims, i.pairs[keyOperator], i.created)
}

// AccountJWTs derives the documents of all accounts, SYS first. It fails when
// the retired agents do not fit into MaxDocument.
func AccountJWTs(i *Identity, f Facts) ([]AccountJWT, error) {
	platform, err := platformClaims(i)
	if err != nil {
		return nil, err
	}
	agents, err := agentsClaims(i, f)
	if err != nil {
		return nil, err
	}
	events, err := eventsClaims(i, f)
	if err != nil {
		return nil, err
	}
	var documents []AccountJWT
	for _, account := range []struct {
		name   string
		claims *jwt.AccountClaims
	}{
		{AccountSystem, systemClaims(i)}, {AccountPlatform, platform}, {AccountAgents, agents}, {AccountEvents, events},
	} {
		document, err := signAccount(i, account.name, account.claims, f)
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	return documents, nil
}

func signAccount(i *Identity, name string, claims *jwt.AccountClaims, f Facts) (AccountJWT, error) {
	claims.Name = name
	claims.Tags = jwt.TagList{tagSchema + strconv.Itoa(documentSchema), tagVersion + strconv.FormatInt(f.Version, 10)}
	token, err := encodeClaims(claims, i.pairs[keyOperatorSigning], f.at())
	if err != nil {
		return AccountJWT{}, certctl.Wrap(certctl.Internal, err, "signing the bus account %s", name)
	}
	if len(token) > MaxDocument {
		return AccountJWT{}, certctl.Errorf(certctl.Conflict, "the bus account %s has %d bytes, more than %d", name, len(token), MaxDocument).
			WithRemedy("too many agents were retired within %s: wait until the oldest of them have expired, or replace the agents' signing key", MaxUserLife)
	}
	return AccountJWT{Name: name, Key: claims.Subject, JWT: token}, nil
}

// newAccount returns the document of an account without JetStream that exports
// and imports nothing, takes no leaf nodes and has no users but those of its
// scoped keys.
func newAccount(i *Identity, name string) *jwt.AccountClaims {
	claims := jwt.NewAccountClaims(i.Account(name))
	claims.Limits.AccountLimits = jwt.AccountLimits{WildcardExports: true, DisallowBearer: true, Conn: jwt.NoLimit}
	claims.DefaultPermissions = jwt.Permissions{
		Pub: jwt.Permission{Deny: jwt.StringList{">"}}, Sub: jwt.Permission{Deny: jwt.StringList{">"}},
	}
	return claims
}

// addScope lets key sign users of the account that may do what template says,
// and nothing else.
func addScope(i *Identity, claims *jwt.AccountClaims, key keyName, template jwt.UserPermissionLimits) {
	scope := jwt.NewUserScope()
	scope.Key = i.public(key)
	scope.Role = string(key)
	scope.Template = template
	claims.SigningKeys.AddScopedSigner(scope)
}

func systemClaims(i *Identity) *jwt.AccountClaims {
	claims := newAccount(i, AccountSystem)
	addScope(i, claims, keyPusher, pusherTemplate())
	return claims
}

// platformClaims is the account of the server roles: it alone has JetStream. It
// exports agents' commands and questions and, of JetStream, what one consumer of
// the event stream needs.
func platformClaims(i *Identity) (*jwt.AccountClaims, error) {
	claims := newAccount(i, AccountPlatform)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	claims.Exports.Add(
		&jwt.Export{Name: "commands", Subject: jwt.Subject(patternCommands(anyone)), Type: jwt.Stream},
		&jwt.Export{Name: "asks", Subject: jwt.Subject(patternAsks(anyone)), Type: jwt.Service},
	)
	for _, request := range readerRequests(patternReader(anyone)) {
		response := jwt.ResponseType(jwt.ResponseTypeSingleton)
		if request.many {
			response = jwt.ResponseTypeStream
		}
		claims.Exports.Add(&jwt.Export{Name: request.name, Subject: jwt.Subject(request.subject), Type: jwt.Service, ResponseType: response})
	}
	claims.Limits.Exports = int64(len(claims.Exports))
	for _, role := range Roles {
		template, err := roleTemplate(role)
		if err != nil {
			return nil, err
		}
		addScope(i, claims, roleKey(role), template)
	}
	return claims, nil
}

// agentsClaims is the account of the nodes. What an agent publishes can reach a
// responder of the platform under the agent's own name, and nothing else.
//
// The broker checks the subject of a message, never its reply. An agent could so
// have the answer to its own question sent to another agent's command subject
// (tried: it arrives, as a bell). The mapping sends whatever is published to a
// command subject within this account where nobody may subscribe; commands of
// the platform come in by the import and are not mapped.
func agentsClaims(i *Identity, f Facts) (*jwt.AccountClaims, error) {
	claims := newAccount(i, AccountAgents)
	claims.Imports.Add(
		&jwt.Import{Name: "commands", Subject: jwt.Subject(patternCommands(anyone)), Account: i.Account(AccountPlatform), Type: jwt.Stream},
		&jwt.Import{Name: "asks", Subject: jwt.Subject(patternAsks(anyone)), Account: i.Account(AccountPlatform), Type: jwt.Service},
	)
	claims.Limits.Imports = int64(len(claims.Imports))
	claims.Mappings = jwt.Mapping{
		jwt.Subject(patternCommands(anyone)): {{Subject: patternVoid}},
	}
	addScope(i, claims, keyAgent, agentTemplate())
	claims.Revocations = jwt.RevocationList{}
	for _, agent := range f.Retired {
		if !nkeys.IsValidPublicUserKey(agent.Key) {
			return nil, certctl.Errorf(certctl.Internal, "the bus key %q of a retired agent is not one", certctl.Clip(agent.Key, 60))
		}
		revoke(claims, agent.Key, agent.At)
	}
	return claims, nil
}

// eventsClaims is the account of downstream readers. For each there are three
// imports, about its own consumer; a reader that expired or was revoked has none.
func eventsClaims(i *Identity, f Facts) (*jwt.AccountClaims, error) {
	claims := newAccount(i, AccountEvents)
	addScope(i, claims, keyReader, readerTemplate())
	claims.Revocations = jwt.RevocationList{}
	for _, reader := range f.Readers {
		if !f.at().Before(reader.ExpiresAt) {
			continue
		}
		if !reader.RevokedAt.IsZero() {
			pair, err := i.readerPair(reader.ID)
			if err != nil {
				return nil, certctl.Wrap(certctl.Internal, err, "deriving the key of reader %s", reader.ID)
			}
			public, err := pair.PublicKey()
			if err != nil {
				return nil, certctl.Wrap(certctl.Internal, err, "deriving the key of reader %s", reader.ID)
			}
			revoke(claims, public, reader.ExpiresAt)
			continue
		}
		for _, request := range readerRequests(patternReader(reader.ID.String())) {
			claims.Imports.Add(&jwt.Import{
				Name: request.name, Subject: jwt.Subject(request.subject), LocalSubject: jwt.RenamingSubject(request.local),
				Account: i.Account(AccountPlatform), Type: jwt.Service,
			})
		}
	}
	claims.Limits.Imports = int64(len(claims.Imports))
	return claims, nil
}

// revoke refuses a key whatever it logs in with. Credentials issued up to the
// moment of a revocation are refused, and clocks of replicas differ; since a
// revoked key is never signed again, the moment is put where no credentials of
// that key can be newer.
func revoke(claims *jwt.AccountClaims, key string, at time.Time) {
	claims.Revocations.Revoke(key, at.Add(MaxUserLife))
}

// readerRequest is one thing that a reader may ask of JetStream.
type readerRequest struct {
	name    string
	subject string // in the platform's account
	local   string // in the readers' account, when it is another
	many    bool   // any number of messages answer it
}

func readerRequests(consumer string) []readerRequest {
	info, next := consumerInfo(StreamEvent, consumer), consumerNext(StreamEvent, consumer)
	return []readerRequest{
		{name: "info", subject: jetStreamAPI + info, local: ReaderAPIPrefix + "." + info},
		{name: "next", subject: jetStreamAPI + next, local: ReaderAPIPrefix + "." + next, many: true},
		{name: "ack", subject: acknowledgements(StreamEvent, consumer)},
	}
}
