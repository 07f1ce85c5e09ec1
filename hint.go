package certctl

// HintVerb says what kind of work may be waiting.
type HintVerb string

const (
	HintIssue  HintVerb = "issue"  // orders that are ready, or whose attempt must be resumed; lane: issuer
	HintRevoke HintVerb = "revoke" // revocations to send; lane: issuer
	HintRenew  HintVerb = "renew"  // holders that may be due; no lane
	HintCRL    HintVerb = "crl"    // lists to sign; ids: authorities; no lane
	HintBell   HintVerb = "bell"   // agents that should ask their mailbox; ids: agents; no lane
	HintExpire HintVerb = "expire" // orders whose wait has ended, holders whose leaves end; no lane
	HintSystem HintVerb = "system" // the platform's own certificates and authorities; no lane
)

const (
	HintReplace HintVerb = "replace" // revocations that wait for their replacement; ids: versions; no lane
	HintRollout HintVerb = "rollout" // mass changes that may go on; no lane
)

// HintVerbs lists every verb that travels as an intent (the bell does not: it
// is an empty message to one agent).
var HintVerbs = []HintVerb{HintIssue, HintRevoke, HintRenew, HintCRL, HintExpire, HintSystem, HintReplace, HintRollout, HintAbandon, HintRenewalInfo, HintNotify, HintTrial, HintRecords}

// NoLane is the lane of work that no issuer's slowness can hold up.
const NoLane = "-"

// Hint says: look at these now. It may be lost, late, doubled or forged without
// harm, since whoever looks reads from the database what to do and whether it may.
type Hint struct {
	Verb HintVerb
	Lane string // an issuer's id, or NoLane
	IDs  []ID   // at most MaxHintIDs; published with at most MaxIDs of the verb
}

// MaxHintIDs bounds one hint.
const MaxHintIDs = 256

// maxLaneIDs is how many ids of an issuer's lane are published together. A hint
// goes to one process: small ones let all that there are share what an issuer that
// takes its time has to do, and are merged again by those that take many at once.
const maxLaneIDs = 16

// MaxIDs is how many ids of a verb are published together.
func (v HintVerb) MaxIDs() int {
	switch v {
	case HintIssue, HintRevoke, HintAbandon, HintTrial:
		return maxLaneIDs
	}
	return MaxHintIDs
}
