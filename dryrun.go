package certctl

import "time"

// CommandTest is a command whose Object is the test of a target: the agent does
// everything of an installation that changes nothing; body TestCommand.
const CommandTest = "test"

// FeatureTest is a feature of agents that know CommandTest.
const FeatureTest = "test"

// TargetTestLife is how long an agent may take to test a target. What a node was
// like an hour ago is worth little, so that an older request is not carried out.
const TargetTestLife = 15 * time.Minute

// Bounds of a test.
const (
	MaxTestPlaces = 100 // of one command
	MaxTestSteps  = 500 // of one report
)

// TestCommand asks an agent to test a target.
type TestCommand struct {
	Test     ID          `json:"test"`
	Target   ID          `json:"target"`
	Places   []TestPlace `json:"places,omitempty"`
	Left     int         `json:"left,omitempty"` // places that the target has besides
	NotAfter time.Time   `json:"not_after"`      // the command is void afterwards
}

// TestPlace is a binding of the target, and what is to be served there.
type TestPlace struct {
	Binding     ID     `json:"binding,omitzero"` // absent in commands of older servers
	Certificate string `json:"certificate"`      // its name
	Place       string `json:"place"`
	Slot        Slot   `json:"slot"`
	Names       Names  `json:"names"`
	Fingerprint Digest `json:"fingerprint,omitzero"` // of the newest leaf; zero: none is issued
	SPKI        Digest `json:"spki,omitzero"`
}

// ReportTested is a report whose Object is the test of a target; Number: the
// command's; body TestReport.
const ReportTested = "tested"

// TestReport is what an agent has found, in the order of an installation.
type TestReport struct {
	Target ID         `json:"target"`
	Steps  []TestStep `json:"steps"`
	At     time.Time  `json:"at"`
}

// StepState says how a step of a test ended.
type StepState string

const (
	StepOK      StepState = "ok"
	StepFails   StepState = "fails"   // an installation would end here
	StepSkipped StepState = "skipped" // it cannot be told without a change; Message says why
)

// TestStep is one thing that an installation would do, and how that would end.
type TestStep struct {
	Binding ID        `json:"binding,omitzero"` // that it is about; absent: none, or an older agent
	Step    string    `json:"step"`             // policy, directory, program, place, check, reload or listener
	Subject string    `json:"subject"`          // a path, a place, an address
	State   StepState `json:"state"`
	Message string    `json:"message"` // what was found, or what would be done
	Remedy  string    `json:"remedy,omitempty"`
}

// TestState is where the test of a target stands.
type TestState string

const (
	TestPending TestState = "pending" // waits for its agent
	TestPassed  TestState = "passed"
	TestFailed  TestState = "failed"
	TestExpired TestState = "expired" // its agent has not answered in time
)

// TargetTest is the newest test of a target.
type TargetTest struct {
	ID          ID
	Target      ID
	Revision    int64 // of the target, when it was asked for
	RequestedAt time.Time
	NotAfter    time.Time
	FinishedAt  time.Time // zero: not yet
	Steps       []TestStep
	Receipt     []byte // the agent's signed Statement, as it came
}

// State says where the test stands.
func (t TargetTest) State(now time.Time) TestState {
	switch {
	case t.FinishedAt.IsZero() && now.After(t.NotAfter):
		return TestExpired
	case t.FinishedAt.IsZero():
		return TestPending
	}
	for _, step := range t.Steps {
		if step.State == StepFails {
			return TestFailed
		}
	}
	return TestPassed
}

// TestWork is a target that its agent should test.
type TestWork struct {
	ID       ID
	Target   Ref
	Number   int64
	Places   []TestPlace
	Left     int
	NotAfter time.Time
}

// Fit takes what fits into a number of bytes of the places, and returns about how
// many that takes.
func (w *TestWork) Fit(places []TestPlace, limit int) int {
	size := 0
	for i, p := range places {
		bytes := 450 + len(p.Certificate) + len(p.Place)
		for _, name := range p.Names.Strings() {
			bytes += len(name) + 3
		}
		if i == MaxTestPlaces || size+bytes > limit {
			w.Left = len(places) - i
			break
		}
		w.Places, size = append(w.Places, p), size+bytes
	}
	return size + 1000 // the rest of the command
}

// Events of tests.
const (
	EventTargetTestRequested EventName = "target_test_requested"
	EventTargetTested        EventName = "target_tested"
)
