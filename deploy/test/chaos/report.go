package chaos

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is what a run has found.
type Report struct {
	Seed      uint64           `json:"seed"`
	Short     bool             `json:"short"`
	Started   time.Time        `json:"started"`
	Machine   string           `json:"machine"`
	Took      Seconds          `json:"took_seconds"`
	Scenarios []ScenarioReport `json:"scenarios"`
	LeftOut   []string         `json:"left_out,omitempty"` // scenarios that this machine does not allow

	Submissions    int     `json:"submissions"`
	Faults         int     `json:"faults"`
	Lost           int     `json:"lost"`
	Twice          int     `json:"issued_twice"`
	EventsMissed   int     `json:"events_missed"`
	RecoveryMedian Seconds `json:"recovery_median_seconds"`
	RecoveryWorst  Seconds `json:"recovery_worst_seconds"`
}

// ScenarioReport is the part of one scenario.
type ScenarioReport struct {
	Name           string   `json:"name"`
	About          string   `json:"about"`
	Notes          []string `json:"notes,omitempty"` // what it measured besides
	Submissions    int      `json:"submissions"`
	Retries        int      `json:"retries"` // of requests that failed or were not answered
	Faults         int      `json:"faults"`
	Lost           int      `json:"lost"`
	Twice          int      `json:"issued_twice"`
	Orphans        int      `json:"orphans"` // leaves that came too late and are kept
	Events         int      `json:"events"`
	EventsMissed   int      `json:"events_missed"`
	RecoveryMedian Seconds  `json:"recovery_median_seconds"`
	RecoveryWorst  Seconds  `json:"recovery_worst_seconds"`
	Took           Seconds  `json:"took_seconds"`
	Problems       []string `json:"problems"`

	recoveries []time.Duration
}

// Seconds is a time as the report writes it, to the millisecond.
type Seconds float64

func seconds(d time.Duration) Seconds { return Seconds(d.Round(time.Millisecond).Seconds()) }

// Failed reports whether anything was not as promised.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Scenarios, func(s ScenarioReport) bool { return len(s.Problems) > 0 })
}

// add takes in a scenario's part, and computes what is about all of them.
func (r *Report) add(s ScenarioReport) {
	s.RecoveryMedian, s.RecoveryWorst = middle(s.recoveries)
	if s.Problems == nil {
		s.Problems = []string{}
	}
	r.Scenarios = append(r.Scenarios, s)
	r.Submissions, r.Faults, r.Lost = r.Submissions+s.Submissions, r.Faults+s.Faults, r.Lost+s.Lost
	r.Twice, r.EventsMissed = r.Twice+s.Twice, r.EventsMissed+s.EventsMissed
	var all []time.Duration
	for _, s := range r.Scenarios {
		all = append(all, s.recoveries...)
	}
	r.RecoveryMedian, r.RecoveryWorst = middle(all)
	r.Took = seconds(time.Since(r.Started))
}

func middle(all []time.Duration) (median, worst Seconds) {
	if len(all) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return seconds(sorted[len(sorted)/2]), seconds(sorted[len(sorted)-1])
}

// Print writes the report for people.
func (r Report) Print(w io.Writer) {
	const row = "%-22s %11v %7v %6v %6v %7v %8v %7v %9v %8v\n"
	fmt.Fprintf(w, "\n"+row, "scenario", "submissions", "retried", "faults", "lost", "twice", "orphans", "events", "recovery", "worst")
	line := func(name string, s ScenarioReport) {
		fmt.Fprintf(w, row, name, s.Submissions, s.Retries, s.Faults, s.Lost, s.Twice, s.Orphans, s.Events,
			fmt.Sprintf("%.1fs", s.RecoveryMedian), fmt.Sprintf("%.1fs", s.RecoveryWorst))
	}
	total := ScenarioReport{
		Submissions: r.Submissions, Faults: r.Faults, Lost: r.Lost, Twice: r.Twice, RecoveryMedian: r.RecoveryMedian, RecoveryWorst: r.RecoveryWorst,
	}
	for _, s := range r.Scenarios {
		line(s.Name, s)
		total.Retries, total.Orphans, total.Events = total.Retries+s.Retries, total.Orphans+s.Orphans, total.Events+s.Events
	}
	line("all", total)
	fmt.Fprintf(w, "seed %d, %.0f s\n", r.Seed, r.Took)
	for _, name := range r.LeftOut {
		fmt.Fprintf(w, "%s: left out\n", name)
	}
	for _, s := range r.Scenarios {
		for _, note := range s.Notes {
			fmt.Fprintf(w, "%s: %s\n", s.Name, note)
		}
		for _, problem := range s.Problems {
			fmt.Fprintf(w, "%s: %s\n", s.Name, problem)
		}
	}
}
