package certctl

import "time"

// Trial is the test of a certificate: what an ACME issuer would be asked for, asked
// of its staging directory, where nothing counts. It goes all the way from the
// account to the download, with the certificate's names, the issuer's challenges
// and the agents that answer them. The leaf is thrown away, and its key is gone
// before the CA is asked: neither the certificate, nor an order, a deployment or a
// budget of it changes.
//
//	running ─► passed
//	   │  ▲ └► failed: the first thing that a real order would have to wait for
//	   └──┘    a person for
//	 waits (due_at)
//
// One that has ended stays due until nothing of it is left at the CA, in the DNS or
// on a node.
type Trial struct {
	ID          ID
	Certificate Ref // none: it was not to be made yet
	Name        string
	Team        string
	Issuer      Ref
	Directory   string // where it is asked
	Names       Names
	Outcome     TrialOutcome
	Steps       []TrialStep // that were begun
	Wait        WaitReason
	ErrorCode   string
	Message     string // why it waits, or has failed, and what to do
	CreatedAt   time.Time
	EndedAt     time.Time
}

// TrialOutcome says how a test has ended.
type TrialOutcome string

const (
	TrialRunning TrialOutcome = "running"
	TrialPassed  TrialOutcome = "passed"
	TrialFailed  TrialOutcome = "failed"
)

// TrialStep is how far a test has come.
type TrialStep struct {
	Step string    `json:"step"` // as the issuer's kind names it
	At   time.Time `json:"at"`
}

// TrialRequest asks for a test, of a certificate or of one that is not made yet:
// exactly one of Certificate and New says which.
type TrialRequest struct {
	Certificate ID
	New         *CertificateRequest
	Issuer      string // one of its issuers, by name or id; empty: the first
}

// Staging returns an issuer as certificates are tested with it, and the directory
// that is asked then; an issuer that has none is refused.
type Staging func(Issuer) (Issuer, string, error)

// TrialJob is a test that a worker has taken on.
type TrialJob struct {
	Trial   Trial
	Profile Profile
	Issuer  Issuer
	Sealed  []byte  // the issuer's secrets
	CSR     []byte  // DER; empty before the first step
	Attempt Attempt // what it has recorded; its order is the test
	Tries   int     // to remove what is left of it, once it has ended
}

// TrialEnd is what came of working on a test.
type TrialEnd struct {
	ID      ID
	Worker  string
	Outcome TrialOutcome // running: it waits
	Wait    WaitReason
	Code    string
	Message string
	RetryAt time.Time // while it waits
}

// TrialPatience is how long a test waits, for nodes, DNS servers and the CA, before
// it has failed.
const TrialPatience = 15 * time.Minute

// MaxTrials is how many tests of a certificate are kept.
const MaxTrials = 10

// MaxRunningTrials is how many tests of a team run at once.
const MaxRunningTrials = 50

// HintTrial says that tests can go on, or are to be cleaned up after; lane: issuer.
const HintTrial HintVerb = "trial"

// Events of tests.
const (
	EventTestRequested     EventName = "certificate_test_requested"
	EventCertificateTested EventName = "certificate_tested"
	EventTestFailed        EventName = "certificate_test_failed"
)
