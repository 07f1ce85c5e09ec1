package certctl

import (
	"math"
	"time"
)

// Rollout replaces everything that a selection finds by a deadline, in waves: a
// few first, and more the longer all goes well. Each replacement is an ordinary
// order. With Revoke it also revokes what it replaces.
//
//	running ─► completed
//	   │ ▲
//	   │ └─ resumed by a person
//	   ├─► halted   too much of a wave failed ─┐
//	   ├─► stopped  by a person ───────────────┤
//	   └─► cancelled ◄─────────────────────────┘
//
// What is urgent (a compromised key, a tenth of the life left) is replaced at
// once, whatever the state, unless the rollout is cancelled.
type Rollout struct {
	ID        ID
	Team      string // whose certificates it is about; "" = every team's
	State     RolloutState
	Selection Selection
	Reason    string // for people
	Override  string // why it cannot wait for the end of a freeze
	Revoke    RevocationReason
	Replace   Replacement // with Revoke
	Deadline  time.Time
	Pace      RolloutPace
	Plan      RolloutPlan
	Total     int // items; with Revoke, more than the plan replaces
	Wave      int // that is under way, from 0
	Base      int // items of it that were released when its pace began
	Began     time.Time
	Released  time.Time // when the last item of the wave was
	Forgiven  int       // failed items of the wave that were known when a person resumed
	Message   string    // why it halted
	Waves     []RolloutWave
	Problems  []RolloutProblem
	Creator   string
	DueAt     time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
	ClosedAt  time.Time
}

// Verb is what somebody must be allowed to do to everything that a rollout is
// about.
func (r Rollout) Verb() Verb {
	if r.Revoke != "" {
		return VerbRevoke
	}
	return VerbIssue
}

// RolloutFilter selects rollouts.
type RolloutFilter struct {
	PageRequest
	Team  string
	State RolloutState
}

// RolloutState is a state of a Rollout; see the diagram there.
type RolloutState string

const (
	RolloutRunning   RolloutState = "running"
	RolloutStopped   RolloutState = "stopped"
	RolloutHalted    RolloutState = "halted"
	RolloutCompleted RolloutState = "completed"
	RolloutCancelled RolloutState = "cancelled"
)

// Final reports whether nothing will happen to a rollout in this state any more.
func (s RolloutState) Final() bool { return s == RolloutCompleted || s == RolloutCancelled }

// Selection says which versions a mass change is about; what is given must all
// be true of them.
type Selection struct {
	Team         string            `json:"team,omitempty"`
	Issuer       string            `json:"issuer,omitempty"`
	Authority    ID                `json:"authority,omitzero"`
	Profile      string            `json:"profile,omitempty"`
	Certificate  string            `json:"certificate,omitempty"`
	Agent        string            `json:"agent,omitempty"`
	Label        map[string]string `json:"label,omitempty"`
	Serials      []Serial          `json:"serials,omitempty"`
	IssuedBefore time.Time         `json:"issued_before,omitzero"`
}

// Empty reports whether the selection would find everything.
func (s Selection) Empty() bool {
	return s.Issuer == "" && s.Authority.IsZero() && s.Profile == "" && s.Certificate == "" && s.Agent == "" &&
		len(s.Label) == 0 && len(s.Serials) == 0 && s.IssuedBefore.IsZero()
}

// RolloutRequest asks for a rollout.
type RolloutRequest struct {
	Selection Selection
	Reason    string
	Override  string
	Deadline  time.Time // zero: a day from now
	Pace      RolloutPace
	Revoke    RevocationReason // "" = nothing is revoked
	Replace   Replacement      // with Revoke
	DryRun    bool             // only plan it
}

// Complete fills in what the request leaves out, and refuses what cannot be done.
func (r *RolloutRequest) Complete(now time.Time) error {
	var bad FieldErrors
	if r.Selection.Empty() {
		bad.Add("", "say what it is about: an issuer, authority, profile, label, agent, certificate or serial number, or issued_before")
	}
	if r.Deadline.IsZero() {
		r.Deadline = now.Add(Day)
	}
	if !r.Deadline.After(now) {
		bad.Add("/deadline", "must be in the future")
	}
	if r.Revoke != "" {
		if _, known := r.Revoke.Code(); !known {
			bad.Add("/reason", "%q is not a reason that may be given", Clip(string(r.Revoke), 40))
		}
		var err error
		r.Replace, err = replacement(r.Revoke, r.Replace)
		bad.AddError("", err)
	}
	r.Pace.complete(&bad)
	return bad.Err()
}

// RolloutPace says how a rollout begins and when it halts.
type RolloutPace struct {
	Canary    int      `json:"canary,omitempty"`   // items of the first wave; 0 = a hundredth, at least 1
	Growth    float64  `json:"growth,omitempty"`   // of each wave over the one before; 0 = 4
	Patience  Duration `json:"patience,omitempty"` // for a wave to settle; 0 = what the deadline allows, at most an hour
	Threshold float64  `json:"threshold"`          // share of failed items of a wave that halts it; 0 = 0.1
	Least     int      `json:"least"`              // failed items below which nothing halts, unless the whole wave has failed; 0 = 2
}

const (
	defaultGrowth    = 4
	defaultThreshold = 0.1
	defaultLeast     = 2
	mostPatience     = time.Hour
	maxWaves         = 50
)

func (p *RolloutPace) complete(bad *FieldErrors) {
	if p.Growth == 0 {
		p.Growth = defaultGrowth
	}
	if p.Threshold == 0 {
		p.Threshold = defaultThreshold
	}
	if p.Least == 0 {
		p.Least = defaultLeast
	}
	if p.Growth < 1 || p.Growth > 100 {
		bad.Add("/growth", "must be between 1 and 100")
	}
	if p.Threshold < 0 || p.Threshold > 1 {
		bad.Add("/threshold", "must be between 0 and 1")
	}
	if p.Canary < 0 || p.Least < 0 || p.Patience < 0 {
		bad.Add("", "canary, least and patience must not be negative")
	}
}

// RolloutPlan is how many items each wave has, how many an hour are released, and
// how long a wave is waited for.
type RolloutPlan struct {
	Waves    []int    `json:"waves"`
	Rate     float64  `json:"rate"` // items an hour; 0 = all at once
	Patience Duration `json:"patience"`
}

// Size is the number of items that are replaced.
func (p RolloutPlan) Size() int {
	total := 0
	for _, n := range p.Waves {
		total += n
	}
	return total
}

// PlanRollout plans the replacement of so many items by a deadline. Half of the
// time is for waves to settle, or what their patience says, and the rest for
// releasing items evenly, so that the deadline is met when nothing fails.
func PlanRollout(items int, pace RolloutPace, now, deadline time.Time) (RolloutPlan, error) {
	plan := RolloutPlan{Waves: waves(items, pace), Patience: pace.Patience}
	if items == 0 {
		return plan, nil
	}
	left, n := deadline.Sub(now), time.Duration(len(plan.Waves))
	if plan.Patience == 0 {
		plan.Patience = Duration(min(left/(2*n), mostPatience))
	}
	if need := n * time.Duration(plan.Patience); need >= left {
		return plan, InvalidField("/deadline", "%d waves that are waited for %s each take %s, and there are %s: give more time, fewer waves (canary, growth) or less patience",
			n, plan.Patience, Duration(need), Duration(left.Round(time.Second)))
	}
	plan.Rate = float64(items) / (left - n*time.Duration(plan.Patience)).Hours()
	return plan, nil
}

// waves parts items into a canary and waves that grow.
func waves(items int, pace RolloutPace) []int {
	next := pace.Canary
	if next == 0 {
		next = max(items/100, 1)
	}
	var out []int
	for left := items; left > 0; {
		n := min(next, left)
		if len(out) == maxWaves-1 {
			n = left
		}
		out, left = append(out, n), left-n
		next = max(int(float64(next)*pace.Growth), 1)
	}
	return out
}

// Replan is the plan for what is left of a rollout from now on, with so many
// items still to be released. When the deadline has passed they go at once.
func (p RolloutPlan) Replan(wave, left int, now, deadline time.Time) RolloutPlan {
	remaining, n := deadline.Sub(now), time.Duration(max(len(p.Waves)-wave, 1))
	if remaining <= 0 || left == 0 {
		p.Rate = 0
		return p
	}
	p.Patience = Duration(min(time.Duration(p.Patience), remaining/(2*n)))
	p.Rate = float64(left) / (remaining - n*time.Duration(p.Patience)).Hours()
	return p
}

// RolloutWave is how far a wave is.
type RolloutWave struct {
	Items, Pending, Ordered, Done, Failed, Skipped int
}

func (w RolloutWave) released() int { return w.Items - w.Pending }
func (w RolloutWave) settled() int  { return w.Done + w.Skipped }

// RolloutProblem is one item that failed.
type RolloutProblem struct {
	Certificate Ref
	Holder      ID
	Message     string
}

// RolloutStep is what a running rollout does now.
type RolloutStep struct {
	Release  int       // items of the wave, in their order
	NextWave bool      // this one is over
	Halt     bool      // too much of it has failed
	Complete bool      // so was the last one
	At       time.Time // when to look again
}

// Next decides what a running rollout does, by how far its wave is.
func (r Rollout) Next(w RolloutWave, now time.Time) RolloutStep {
	if r.Wave >= len(r.Plan.Waves) {
		return RolloutStep{Complete: true}
	}
	if r.broken(w) {
		return RolloutStep{Halt: true}
	}
	if step := r.release(w, now); w.Pending > 0 {
		return step
	}
	settled := w.settled() == w.Items
	if over := r.Released.Add(time.Duration(r.Plan.Patience)); !settled && now.Before(over) {
		at := lookAgain(r.Released, now)
		if over.Before(at) {
			at = over
		}
		return RolloutStep{At: at}
	}
	if r.Wave == len(r.Plan.Waves)-1 {
		return RolloutStep{Complete: true}
	}
	return RolloutStep{NextWave: true, At: now}
}

// broken reports whether so much of the wave has failed that a person must look.
func (r Rollout) broken(w RolloutWave) bool {
	failed := w.Failed - r.Forgiven
	share := int(math.Ceil(r.Pace.Threshold * float64(w.Items)))
	return failed > 0 && failed >= max(share, min(r.Pace.Least, w.Items))
}

// release lets out what the pace allows by now.
func (r Rollout) release(w RolloutWave, now time.Time) RolloutStep {
	if r.Plan.Rate == 0 {
		return RolloutStep{Release: w.Pending, At: now}
	}
	began := r.Began
	if began.IsZero() {
		began = now
	}
	allowed := min(r.Base+1+int(now.Sub(began).Hours()*r.Plan.Rate), w.Items)
	n := min(max(allowed-w.released(), 0), w.Pending)
	next := max(w.released()+n-r.Base, 1)
	at := began.Add(time.Duration(math.Ceil(float64(next) / r.Plan.Rate * float64(time.Hour))))
	if n == w.Pending { // nothing of the wave is left for the pace: it may settle at once
		at = now
	}
	return RolloutStep{Release: n, At: maxOf(at, now.Add(time.Second))}
}
