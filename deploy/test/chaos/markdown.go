package chaos

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// Markdown writes the report as a document for people who did not run it.
func (r Report) Markdown(w io.Writer) {
	form := "full"
	if r.Short {
		form = "short"
	}
	fmt.Fprintf(w, "# One run of `./task chaos`\n\nWritten by the run itself: the %s form, seed %d, begun %s, %s.\n\n",
		form, r.Seed, r.Started.Format(time.RFC3339), r.Machine)
	events, orphans := 0, 0
	for _, s := range r.Scenarios {
		events, orphans = events+s.Events, orphans+s.Orphans
	}
	fmt.Fprint(w, "| | |\n|---|---|\n")
	for _, row := range []struct {
		name  string
		value any
	}{
		{"scenarios", len(r.Scenarios)},
		{"submissions made", r.Submissions},
		{"faults injected", r.Faults},
		{"submissions lost", r.Lost},
		{"leaves issued twice", r.Twice},
		{"leaves that came too late, and are kept", orphans},
		{"events", events},
		{"events that a reader missed", r.EventsMissed},
		{"time to recover, median", fmt.Sprintf("%.1f s", r.RecoveryMedian)},
		{"time to recover, worst", fmt.Sprintf("%.1f s", r.RecoveryWorst)},
		{"time taken", (time.Duration(float64(r.Took)) * time.Second).String()},
	} {
		fmt.Fprintf(w, "| %s | %v |\n", row.name, row.value)
	}
	fmt.Fprint(w, "\nTime to recover is from the end of a fault's injection until a new submission is on its node.\n\n"+
		"| scenario | what it does | submissions | faults | lost | twice | median | worst |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "| %s | %s | %d | %d | %d | %d | %.1f s | %.1f s |\n",
			s.Name, s.About, s.Submissions, s.Faults, s.Lost, s.Twice, s.RecoveryMedian, s.RecoveryWorst)
	}
	r.remarks(w)
}

// remarks are what the figures do not say.
func (r Report) remarks(w io.Writer) {
	for _, name := range r.LeftOut {
		fmt.Fprintf(w, "\nThe scenario %s was left out: this machine does not allow it.\n", name)
	}
	for _, s := range r.Scenarios {
		for _, note := range s.Notes {
			fmt.Fprintf(w, "\n%s: %s.\n", s.Name, note)
		}
		for _, problem := range s.Problems {
			fmt.Fprintf(w, "\n**%s: %s**\n", s.Name, strings.Join(strings.Fields(problem), " "))
		}
	}
}

// machine describes what the run is made on.
func machine() string {
	text := fmt.Sprintf("%d CPUs", runtime.NumCPU())
	if cpu := procField("/proc/cpuinfo", "model name"); cpu != "" {
		text += " (" + cpu + ")"
	}
	if memory := procField("/proc/meminfo", "MemTotal"); memory != "" {
		text += ", " + memory + " of memory"
	}
	return text + ", " + runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version()
}

// procField returns the first value of a field in a file of /proc.
func procField(file, field string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
