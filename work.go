package certctl

import (
	"context"
	"time"
)

// IssueJob is an order that may be asked for now, with what an issuer needs.
type IssueJob struct {
	Order    Order
	Team     string
	Issuer   Issuer
	Sealed   []byte // the issuer's secrets
	Policy   RenewalPolicy
	Previous *Attempt  // an attempt whose lease has run out: resume it
	Replaces Version   // the holder's newest version; zero for the first
	ReadAt   time.Time // when it was read, by the database's clock
}

// AttemptStart records what is about to be asked, before it is.
type AttemptStart struct {
	Order     ID
	Revision  int64 // of the order as it was read; another one means the order moved on
	Issuer    ID
	Authority ID
	Serial    Serial
	TBSDigest Digest
	StartedAt time.Time
	Resume    int // the attempt that is resumed; 0 for a new one
}

// Asking is one prepared attempt at a CA. Start is recorded before Ask acts, so
// that an attempt whose worker died is resumed rather than repeated.
type Asking struct {
	Start AttemptStart
	// Ask gets the leaf. Errors are IssueErrors where the CA said something;
	// everything else counts as retryable.
	Ask func(ctx context.Context, attempt Attempt) (Issued, error)
}

// AttemptEnd says how an attempt ended: with a Leaf, or with an error. Or that it
// has not: with a Pause, see there.
type AttemptEnd struct {
	Order     ID
	N         int
	Worker    string
	Leaf      []byte // DER
	Chain     Chain
	Authority ID
	RenewAt   time.Time // zero: never by itself
	Err       *IssueError
	RetryAt   time.Time // with Err, unless it is final
	Refuse    bool      // with Err: the order ends

	AskAt time.Time // of a success: when the CA is asked when to renew it, see RenewalInfo; zero: never

	Pause   WaitReason // the attempt goes on, and is looked at again at RetryAt
	Message string     // with Pause, without Err: what it waits for
}

// Paused reports whether the attempt goes on.
func (e AttemptEnd) Paused() bool { return e.Pause != WaitNone }

// MailboxWork is everything that waits for one agent.
type MailboxWork struct {
	Agent    Agent
	Stop     string // why this session must end
	Keys     []KeyWork
	Installs []InstallWork
	Targets  []Target // those that Installs, Forgets and Tests name
	Forgets  []ForgetWork
	Erases   []EraseWork
	More     bool
	Shares   []ShareWork

	Inventory []ID // bindings whose leaf is asked for; see Recovery
	Proves    []ProveWork
	Tests     []TestWork
}

// KeyWork is an order that waits for its agent's CSR.
type KeyWork struct {
	Order       Order
	Certificate string
	Reuse       Digest // SPKI of the key to use again; zero: make one
	Number      int64
	Recipients  []Statement // whom a shared key is sealed for: the fleet key's words on them
}

// InstallWork is a deployment that its agent should carry out.
type InstallWork struct {
	Deployment  Deployment
	Binding     Binding
	Version     Version
	Names       Names
	Certificate string
	SealedKey   []byte // imported keys, under the "secrets" KEK
	Number      int64
	Next        *NextKey  // the key to ask for with it
	Shared      SharedKey // shared keys
}

// ForgetWork is a binding that its agent should stop managing.
type ForgetWork struct {
	Binding Binding
	Remove  bool
	Number  int64
}

// AgentReport is a verified statement with its body decoded.
type AgentReport struct {
	Statement Statement
	CSR       *CSR
	Receipt   *Receipt
	Refusal   *Refusal
	Next      *CSR          // that came with the receipt
	Shared    *SharedReport // also what came with a CSR
	Inventory *InventoryReport
	Tested    *TestReport
	Held      bool // the set of proofs that Statement.Object names
}

// PlatformKey is one of the platform's own keys: bus identity, fleet key,
// command keys, system keys. Sealed is the private part under the "ca" KEK.
type PlatformKey struct {
	ID        ID
	Purpose   string // bus-identity, fleet, command, …
	Public    []byte
	Sealed    []byte
	NotBefore time.Time
	NotAfter  time.Time
}

// Purposes of platform keys.
const (
	KeyPurposeBus     = "bus-identity"
	KeyPurposeFleet   = "fleet"
	KeyPurposeCommand = "command"
	KeyPurposeSystem  = "system" // TLS keys of the platform's own certificates
	KeyPurposeCheck   = "kek-check"
)

// MailboxAsk is one agent's verified question for work.
type MailboxAsk struct {
	Agent   ID
	Time    time.Time // of the statement, by the node's clock
	Request MailboxRequest
}

// SubmitResult is what became of one item of a bulk submission.
type SubmitResult struct {
	Certificate Certificate
	Err         error
}

// HolderVersion is a holder with its newest version; Version.ID is absent
// before the first.
type HolderVersion struct {
	Holder  Holder
	Version Version
}

// Submitted is a certificate as it was recorded.
type Submitted struct {
	Certificate Certificate
	Orders      []Order
	Holders     []HolderVersion // without versions
	// Shared is whether members of a shared holder are missing in Holders.
	Shared bool
	// Earlier is whether an earlier request had made it: then what belongs to it is
	// not read.
	Earlier bool
}

// RevocationJob is a revocation that its issuer has not confirmed yet.
type RevocationJob struct {
	Version Version
	Issuer  Issuer
	Sealed  []byte // the issuer's secrets
	Reason  RevocationReason
	Tries   int
}

// RevocationEnd says how an attempt to revoke ended.
type RevocationEnd struct {
	Version ID
	State   RevocationState
	Message string
	RetryAt time.Time // with RevocationFailed
}

// RevocationState is where a revocation stands at its issuer.
type RevocationState string

const (
	RevocationRequested    RevocationState = "requested"
	RevocationSent         RevocationState = "sent"
	RevocationConfirmed    RevocationState = "confirmed"
	RevocationFailed       RevocationState = "failed"        // tried again
	RevocationNotSupported RevocationState = "not_supported" // the issuer knows no revocation: never a success
)

// RetiredAgent is a bus key that must not log in any more.
type RetiredAgent struct {
	Key string // nkey
	At  time.Time
}

// FinishResult says what became of one AttemptEnd.
type FinishResult struct {
	Order   ID
	Version ID   // absent for failures
	Stale   bool // the attempt was not the current one any more; a leaf is kept as an orphan
}

// SystemVersion is a certificate of the platform's own, signed before there was
// an order to sign it for: the API's, the broker's.
type SystemVersion struct {
	Name      string
	Names     Names
	Leaf      []byte
	Chain     Chain
	Issuer    ID
	Authority ID
	Holder    ID // drawn by the caller, so that the key can be sealed for it
	SealedKey []byte
	RenewAt   time.Time
}

// CRLJob is an authority whose revocation lists are to be signed anew.
type CRLJob struct {
	Authority Authority
	DueAt     time.Time // as it was read: when it has moved, something was revoked meanwhile
}
