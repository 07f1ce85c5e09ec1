package certctl

import (
	"strings"
	"time"
)

// ExternalAccount is this installation's account at a CA. Its key never leaves
// the workers, and is stored before the CA hears of it, so that a registration
// whose answer was lost is found again.
type ExternalAccount struct {
	ID        ID
	Issuer    ID
	Directory string // the server that it is at
	SealedKey []byte // under the "secrets" KEK
	URL       string // the CA's name for it; empty until registered
	Contact   []string
	Given     bool // the CA has it already: another client has registered it
	CreatedAt time.Time
}

// SecretAccountKey is the secret of an issuer that is the key of an account which
// its CA has already. It becomes the issuer's account, see ExternalAccount.
const SecretAccountKey = "account_key"

// ExternalHold is the claim of an order to be the only one that asks an account
// for a set of names: CAs merge orders for the same names, and a key each would
// then get one leaf.
type ExternalHold struct {
	Account ID
	Issuer  ID
	Order   ID
	Names   Digest
}

// ExternalSpend asks for one more order of an account, within what its CA gives in
// a time. All replicas share what an account has.
type ExternalSpend struct {
	Account ID
	Order   ID
	Uses    []BudgetUse
}

// BudgetUse is one of the limits that an order comes under.
type BudgetUse struct {
	Key  string // what is counted, see Budget*
	Rate Rate
	Kept bool // it is counted elsewhere: nothing is spent
}

// Counts says what is counted.
func (u BudgetUse) Counts() string {
	if domain, ok := strings.CutPrefix(u.Key, BudgetDomain); ok {
		return "certificates for " + domain + " and all below it"
	}
	if strings.HasPrefix(u.Key, BudgetNames) {
		return "certificates for exactly these names"
	}
	if name, ok := strings.CutPrefix(u.Key, BudgetFailures); ok {
		return "failed validations of " + name
	}
	return "orders of the account"
}

// BudgetFull says that a budget is used up; the zero value is none that is.
type BudgetFull struct {
	Use   BudgetUse
	Until time.Time     // when it has room again, by the database's clock
	After time.Duration // the time until then
}

// What is counted of an account. All but the first are followed by a name.
const (
	BudgetOrders   = "orders"
	BudgetDomain   = "domain "   // certificates for a registered domain and what is below it
	BudgetNames    = "names "    // certificates for exactly the same names: their digest
	BudgetFailures = "failures " // validations of a name that failed
)

// ChallengeToken is a proof that is fetched over HTTP (RFC 8555 section 8.3).
type ChallengeToken struct {
	Token  string
	Answer string
}

// AbandonJob is an order at a CA that nobody wants any more.
type AbandonJob struct {
	ID      ID
	Order   Order
	Attempt Attempt // the newest of the order: what it recorded is all that is known
	Issuer  Issuer
	Sealed  []byte // the issuer's secrets
	Tries   int
}

// AbandonEnd says how an attempt to end an order at its CA went: nothing is left
// there, or a leaf came of it nevertheless, or it is tried again.
type AbandonEnd struct {
	ID      ID
	Order   ID
	N       int
	Leaf    []byte
	Chain   Chain
	Err     error     // not yet: RetryAt says when it is tried again
	RetryAt time.Time // with Err
}

// HintAbandon says that orders at a CA are to be ended; lane: issuer.
const HintAbandon HintVerb = "abandon"

// EventIssuerAccount tells that a CA has registered this installation.
const EventIssuerAccount EventName = "issuer_account_registered"

// MaxAbandonTries is how often it is tried to end an order at a CA before it is
// left to expire there.
const MaxAbandonTries = 20
