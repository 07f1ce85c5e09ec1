package certctl

import (
	"encoding/json"
	"strings"
	"time"
)

// Target is one daemon or store on one node, which certificates are installed
// into. It never moves: another node is another target. It is the unit of
// staging, validation, locking and batching.
type Target struct {
	ID         ID
	Team       string
	Agent      Ref
	Name       string
	Kind       string          // a row of agent/target's table
	Settings   json.RawMessage // an object; its shape is the kind's
	Revision   int64           // rises with every change of kind's settings
	Labels     map[string]string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	ArchivedAt time.Time
	Test       TargetTest // the newest, where one target is read
}

// Slot tells apart certificates of different key algorithms for one place.
type Slot string

const (
	SlotDefault Slot = "default"
	SlotRSA     Slot = "rsa"
	SlotECDSA   Slot = "ecdsa"
)

// Binding connects a certificate to a target. Place says where there: the
// certificate's own folder by default, or a name that the target's kind
// understands. One certificate per place and slot.
type Binding struct {
	ID          ID
	Certificate ID
	Target      Ref
	Agent       ID
	Place       string
	Slot        Slot
	Number      int64 // of the newest command for it; see Command
	CreatedAt   time.Time
	UnboundAt   time.Time
}

// CheckPlace refuses a place that could leave the target's directory: it is one
// path element of the characters that names have.
func CheckPlace(place string) error {
	if place == "." || place == ".." || strings.ContainsAny(place, "/\\\x00") {
		return InvalidField("/place", "a place is one folder name")
	}
	return CheckObjectName(strings.TrimPrefix(place, "*"))
}

// DeploymentState is a state of a Deployment.
type DeploymentState string

const (
	DeploymentPending    DeploymentState = "pending"    // waits for its agent, or for the next try
	DeploymentInstalling DeploymentState = "installing" // sent
	DeploymentVerified   DeploymentState = "verified"   // served, and the agent signed for it
	DeploymentInstalled  DeploymentState = "installed"  // loaded; no probe is possible there
	DeploymentRolledBack DeploymentState = "rolled_back"
	DeploymentFailed     DeploymentState = "failed"
	DeploymentSuperseded DeploymentState = "superseded" // a newer version took its place
)

// Final reports whether a deployment in this state is finished for good.
// Rolled back and failed ones are tried again.
func (s DeploymentState) Final() bool {
	return s == DeploymentVerified || s == DeploymentInstalled || s == DeploymentSuperseded
}

// Deployment brings one version onto one binding.
//
//	pending ─► installing ─► verified | installed
//	   ▲            ├─► rolled_back ─┐  the previous generation is (still or again) served
//	   │            └─► failed ──────┤  not tried, nothing previous, or the way back failed too
//	   └──────── due_at ─────────────┘  1 min doubling to 6 h, until superseded
type Deployment struct {
	ID          ID
	Certificate ID
	Binding     ID
	Target      Ref
	Agent       ID
	Version     ID
	State       DeploymentState
	Wait        WaitReason
	Reason      string // stable code of the last failure, e.g. check_refused
	Message     string // for a person, in the daemon's own words where there are any
	Tries       int
	DueAt       time.Time
	Receipt     []byte // the agent's signed Statement, as it came
	VerifiedAt  time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Next returns the state that a deployment takes with a receipt, and when it is
// due again (zero: not by itself). tries counts this one.
func (s DeploymentState) Next(outcome ReceiptOutcome, tries int, now time.Time, spread float64) (DeploymentState, time.Time) {
	switch outcome {
	case OutcomeVerified:
		return DeploymentVerified, time.Time{}
	case OutcomeInstalled:
		return DeploymentInstalled, time.Time{}
	case OutcomeRolledBack:
		return DeploymentRolledBack, now.Add(Backoff(tries, spread))
	}
	return DeploymentFailed, now.Add(Backoff(tries, spread))
}
