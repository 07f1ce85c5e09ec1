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
	// Version rises whenever Retired changes: microseconds since 1970 of the newest
	// change. It dates the document of AGENTS; the others have dates of their own.
	Version int64
	// Retired are the bus keys of agents that must not log in any more. Those that
	// retired more than MaxUserLife before now may be left out.
	Retired []certctl.RetiredAgent
	// Readers are all that have not expired, revoked ones among them.
	Readers []certctl.Reader
}

// AccountJWT is the signed document of one account: public, and valid until a
// newer one takes its place.
type AccountJWT struct {
	Name string // SYS, CERTCTL, AGENTS or EVENTS-<reader>
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

// AccountJWTs derives the documents of all accounts: SYS, CERTCTL, AGENTS, and
// one for each reader. It fails when the retired agents do not fit into
// MaxDocument.
func AccountJWTs(i *Identity, f Facts) ([]AccountJWT, error) {
	platform, err := platformClaims(i)
	if err != nil {
		return nil, err
	}
	agents, err := agentsClaims(i, f)
	if err != nil {
		return nil, err
	}
	accounts := []account{
		{AccountSystem, i.created, systemClaims(i)},
		{AccountPlatform, i.created, platform},
		{AccountAgents, time.UnixMicro(f.Version), agents},
	}
	for _, reader := range f.Readers {
		account, err := readerAccount(i, reader)
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, account)
	}
	documents := make([]AccountJWT, 0, len(accounts))
	for _, account := range accounts {
		document, err := account.sign(i)
		if err != nil {
			return nil, err
		}
		documents = append(documents, document)
	}
	return documents, nil
}

// account is what a document says, and since when.
type account struct {
	name   string
	since  time.Time
	claims *jwt.AccountClaims
}

func (a account) sign(i *Identity) (AccountJWT, error) {
	a.claims.Name = a.name
	a.claims.Tags = jwt.TagList{tagSchema + strconv.Itoa(documentSchema), tagVersion + strconv.FormatInt(a.since.UnixMicro(), 10)}
	token, err := encodeClaims(a.claims, i.pairs[keyOperatorSigning], a.since)
	if err != nil {
		return AccountJWT{}, certctl.Wrap(certctl.Internal, err, "signing the bus account %s", a.name)
	}
	if len(token) > MaxDocument {
		return AccountJWT{}, certctl.Errorf(certctl.Conflict, "the bus account %s has %d bytes, more than %d", a.name, len(token), MaxDocument).
			WithRemedy("too many agents were retired within %s: wait until the oldest of them have expired, or replace the agents' signing key", MaxUserLife)
	}
	return AccountJWT{Name: a.name, Key: a.claims.Subject, JWT: token}, nil
}

// newAccount returns the document of an account without JetStream that exports
// and imports nothing, takes no leaf nodes and has no users but those of its
// scoped keys.
func newAccount(public string) *jwt.AccountClaims {
	claims := jwt.NewAccountClaims(public)
	claims.Limits.AccountLimits = jwt.AccountLimits{WildcardExports: true, DisallowBearer: true, Conn: jwt.NoLimit}
	claims.DefaultPermissions = jwt.Permissions{
		Pub: jwt.Permission{Deny: jwt.StringList{">"}}, Sub: jwt.Permission{Deny: jwt.StringList{">"}},
	}
	return claims
}

// addScope lets key sign users of the account that may do what template says,
// and nothing else.
func addScope(claims *jwt.AccountClaims, key, role string, template jwt.UserPermissionLimits) {
	scope := jwt.NewUserScope()
	scope.Key = key
	scope.Role = role
	scope.Template = template
	claims.SigningKeys.AddScopedSigner(scope)
}

func systemClaims(i *Identity) *jwt.AccountClaims {
	claims := newAccount(i.Account(AccountSystem))
	addScope(claims, i.public(keyPusher), Pusher, pusherTemplate())
	return claims
}

// platformClaims is the account of the server roles: it alone has JetStream. It
// exports agents' commands and questions and, of JetStream, what the reader of a
// consumer of events needs; whose consumer, the reader's imports say.
func platformClaims(i *Identity) (*jwt.AccountClaims, error) {
	claims := newAccount(i.Account(AccountPlatform))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	claims.Exports.Add(
		&jwt.Export{Name: "commands", Subject: jwt.Subject(patternCommands(anyone)), Type: jwt.Stream},
		&jwt.Export{Name: "asks", Subject: jwt.Subject(patternAsks(anyone)), Type: jwt.Service},
	)
	for _, request := range readerRequests(anyone) {
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
		addScope(claims, i.public(roleKey(role)), string(role), template)
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
	claims := newAccount(i.Account(AccountAgents))
	claims.Imports.Add(
		&jwt.Import{Name: "commands", Subject: jwt.Subject(patternCommands(anyone)), Account: i.Account(AccountPlatform), Type: jwt.Stream},
		&jwt.Import{Name: "asks", Subject: jwt.Subject(patternAsks(anyone)), Account: i.Account(AccountPlatform), Type: jwt.Service},
	)
	claims.Limits.Imports = int64(len(claims.Imports))
	claims.Mappings = jwt.Mapping{
		jwt.Subject(patternCommands(anyone)): {{Subject: patternVoid}},
	}
	addScope(claims, i.public(keyAgent), "agent", agentTemplate())
	claims.Revocations = jwt.RevocationList{}
	for _, agent := range f.Retired {
		if !nkeys.IsValidPublicUserKey(agent.Key) {
			return nil, certctl.Errorf(certctl.Internal, "the bus key %q of a retired agent is not one", certctl.Clip(agent.Key, 60))
		}
		revoke(claims, agent.Key, agent.At)
	}
	return claims, nil
}

// readerAccount is the account of one downstream reader: it imports what is
// asked about its own consumer, or nothing once it is revoked.
//
// Readers share no account, since a reader could have the answer to its own
// question sent to another's request subject (tried: it arrives, and the other's
// events are handed out to nobody until they are due again). Here there is no
// other's subject.
func readerAccount(i *Identity, reader certctl.Reader) (account, error) {
	keys, err := i.reader(reader.ID)
	if err != nil {
		return account{}, err
	}
	claims := newAccount(publicKey(keys.account))
	claims.Limits.Conn = readerConnections
	addScope(claims, publicKey(keys.signing), "reader", readerTemplate())
	since := reader.CreatedAt
	if reader.RevokedAt.IsZero() {
		for _, request := range readerRequests(ReaderConsumer(reader.ID)) {
			claims.Imports.Add(&jwt.Import{
				Name: request.name, Subject: jwt.Subject(request.subject), LocalSubject: jwt.RenamingSubject(request.local),
				Account: i.Account(AccountPlatform), Type: jwt.Service,
			})
		}
	} else {
		since = reader.RevokedAt
		claims.Revocations = jwt.RevocationList{}
		revoke(claims, jwt.All, reader.ExpiresAt)
	}
	claims.Limits.Imports = int64(len(claims.Imports))
	return account{AccountEvents + "-" + reader.ID.String(), since, claims}, nil
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
