package certctl

import "time"

// OrderState is a state of an Order; see the diagram at Order.
type OrderState string

const (
	OrderPending          OrderState = "pending"
	OrderAwaitingApproval OrderState = "awaiting_approval"
	OrderAwaitingCSR      OrderState = "awaiting_csr"
	OrderReady            OrderState = "ready"
	OrderProcessing       OrderState = "processing"
	OrderIssued           OrderState = "issued"
	OrderRefused          OrderState = "refused"
	OrderCancelled        OrderState = "cancelled"
)

// Final reports whether nothing will happen to an order in this state any more.
func (s OrderState) Final() bool {
	return s == OrderIssued || s == OrderRefused || s == OrderCancelled
}

// orderMoves lists the permitted transitions.
var orderMoves = map[OrderState][]OrderState{
	OrderPending:          {OrderAwaitingApproval, OrderAwaitingCSR, OrderReady, OrderRefused, OrderCancelled},
	OrderAwaitingApproval: {OrderAwaitingCSR, OrderReady, OrderRefused, OrderCancelled},
	OrderAwaitingCSR:      {OrderReady, OrderRefused, OrderCancelled},
	OrderReady:            {OrderProcessing, OrderAwaitingCSR, OrderRefused, OrderCancelled},
	OrderProcessing:       {OrderReady, OrderIssued, OrderRefused, OrderCancelled},
}

// CanMove reports whether an order may go from s to the given state.
func (s OrderState) CanMove(to OrderState) bool {
	for _, state := range orderMoves[s] {
		if state == to {
			return true
		}
	}
	return false
}

// Origin says what asked for an order.
type Origin string

const (
	OriginAPI      Origin = "api"
	OriginSweep    Origin = "sweep"
	OriginBulk     Origin = "bulk"
	OriginImport   Origin = "import"
	OriginProtocol Origin = "protocol"
	OriginSystem   Origin = "system"
)

// WaitReason says why an unfinished order or deployment is not being worked on.
// Waiting is not an end: a due time always comes with it.
type WaitReason string

const (
	WaitNone        WaitReason = ""
	WaitBackoff     WaitReason = "backoff" // the last try failed; text and code say how
	WaitSlot        WaitReason = "slot"    // the issuer's concurrency is used up
	WaitBudget      WaitReason = "budget"  // the issuer's rate, or a budget of its account, is used up
	WaitIssuerDown  WaitReason = "issuer_down"
	WaitHolder      WaitReason = "holder_offline"
	WaitCSR         WaitReason = "csr" // the client must send one
	WaitApproval    WaitReason = "approval"
	WaitParked      WaitReason = "parked" // a dead letter names it
	WaitPaused      WaitReason = "paused" // the certificate or its issuer
	WaitWindow      WaitReason = "window" // no change window is open
	WaitFreeze      WaitReason = "freeze"
	WaitSuperseding WaitReason = "installing" // an older command is still being carried out
)

// WaitKey is why a deployment of a shared key waits: no other member has sealed
// the key for this one yet.
const WaitKey WaitReason = "key"

// Order is the duty to get one leaf for one holder and one revision of a
// certificate. At most one order of a holder is live.
//
//	pending ─► awaiting_approval ─► awaiting_csr ─► ready ─► processing ─► issued
//	   │              │                  ▲            ▲           │
//	   └──────────────┴──────────────────┘            └─ attempt ─┘ ended
//	any of them ─► refused (the request cannot be met) or cancelled (nobody wants it)
//
// Every state that is not final has a row in the due table that says when
// somebody must look at it next.
type Order struct {
	ID          ID
	Certificate ID
	Holder      ID
	HolderKind  HolderKind
	Revision    int64
	State       OrderState
	Wait        WaitReason
	ErrorCode   string // of the last failure, stable; see IssueError
	Message     string // for a person: what happened, what to do
	DueAt       time.Time
	Origin      Origin
	Requester   ID
	Override    string  // why it was asked for during a freeze
	Names       Names   // snapshot
	Profile     Profile // snapshot
	Issuer      ID      // the one that is asked now
	CSR         []byte  // DER; empty until known
	Attempts    int
	Waived      int // of them, those that count no more for the back-off
	Urgency     Urgency
	Version     ID // once issued
	CreatedAt   time.Time
	UpdatedAt   time.Time
	ClosedAt    time.Time

	Maker Ref // of a shared key: the member that is asked to make it
}

// Urgency orders work that is due at the same time; a lower value goes first.
type Urgency int16

const (
	UrgencyNow    Urgency = 0 // a person waits, a revocation, less than a day left
	UrgencySoon   Urgency = 1 // renewals of what expires within a week
	UrgencyNormal Urgency = 2
	UrgencyBulk   Urgency = 3
)

// RenewalUrgency is the urgency of renewing a leaf that ends at notAfter.
func RenewalUrgency(notAfter, now time.Time) Urgency {
	switch left := notAfter.Sub(now); {
	case left < Day:
		return UrgencyNow
	case left < 7*Day:
		return UrgencySoon
	}
	return UrgencyNormal
}

// FailureKind says what a failed attempt means for the next one.
type FailureKind string

const (
	FailRetryable     FailureKind = "retryable"     // again after a back-off
	FailRateLimited   FailureKind = "rate_limited"  // again when RetryAfter has passed
	FailMisconfigured FailureKind = "misconfigured" // again at the longest back-off, or when something changes
	FailRefused       FailureKind = "refused"       // final: the CA will never sign this
)

// IssueError is how a driver reports that a CA did not sign. Code is stable and
// goes into events; Message is for a person.
type IssueError struct {
	Kind       FailureKind
	Code       string
	Message    string
	Outage     bool // the issuer itself failed: it counts for its health
	RetryAfter time.Duration
	Resume     bool // the attempt goes on after a pause: what the CA has of it is still good
	Cause      error
}

func (e *IssueError) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *IssueError) Unwrap() error { return e.Cause }

// NextTry returns when an order is tried again after its n-th attempt in a row
// failed, and false when it must be refused.
func NextTry(e *IssueError, n int, now time.Time, spread float64) (time.Time, bool) {
	switch e.Kind {
	case FailRefused:
		return time.Time{}, false
	case FailMisconfigured:
		return now.Add(max(e.RetryAfter, Backoff(100, spread))), true
	case FailRateLimited: // when the budget frees, however often that was so
		if e.RetryAfter > 0 {
			return now.Add(e.RetryAfter), true
		}
		return now.Add(Backoff(n, spread)), true
	case FailRetryable:
		return now.Add(max(e.RetryAfter, Backoff(n, spread))), true
	}
	return now.Add(Backoff(n, spread)), true
}

// Attempt is one try of an order at a CA: what was asked, by whom, until when
// nobody else may, and how it ended. It is recorded before the CA is asked.
type Attempt struct {
	Order       ID
	N           int
	Issuer      ID
	Authority   ID // local issuers
	Worker      string
	Serial      Serial // local issuers: reserved before signing
	TBSDigest   Digest // local issuers: what is about to be signed
	ExternalURL string // ACME and the like: the CA's own order
	State       []byte // driver's resumable state, opaque, encrypted by the driver if secret
	SPKI        Digest // of the key that is to be certified
	LeaseUntil  time.Time
	Outcome     AttemptOutcome
	Failure     FailureKind
	RetryAt     time.Time // when the next attempt was to be
	ErrorCode   string
	Message     string
	StartedAt   time.Time
	FinishedAt  time.Time
}

// AttemptOutcome says how an attempt ended; empty while it runs.
type AttemptOutcome string

const (
	AttemptRunning   AttemptOutcome = ""
	AttemptIssued    AttemptOutcome = "issued"
	AttemptFailed    AttemptOutcome = "failed"
	AttemptAbandoned AttemptOutcome = "abandoned" // lease ran out, another one took over
	AttemptCancelled AttemptOutcome = "cancelled"
)

// MaxLostLeases is how many attempts in a row may end by a lapsed lease before
// the order is parked as a dead letter.
const MaxLostLeases = 5
