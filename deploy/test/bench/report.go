package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// result is what one scenario has measured.
type result struct {
	letter, title string
	figures       []figure
	notes         []string
	foreign       float64 // share of the CPU that others used meanwhile
}

// figure is one measured value, with what it is held against.
type figure struct {
	what     string
	value    string
	required string // empty: it is for information
	met      bool
}

// add records a figure that nothing is required of.
func (r *result) add(what, format string, args ...any) {
	r.figures = append(r.figures, figure{what: what, value: fmt.Sprintf(format, args...)})
}

// need records a figure and whether it is what the design asks for.
func (r *result) need(what string, met bool, required, format string, args ...any) {
	r.figures = append(r.figures, figure{what: what, value: fmt.Sprintf(format, args...), required: required, met: met})
}

func (r *result) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// write prints the result as Markdown.
func (r *result) write(out io.Writer) {
	fmt.Fprintf(out, "### %s. %s\n\n| | measured | required | |\n|---|---|---|---|\n", r.letter, r.title)
	for _, f := range r.figures {
		verdict := ""
		if f.required != "" {
			verdict = "**missed**"
			if f.met {
				verdict = "met"
			}
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", f.what, f.value, f.required, verdict)
	}
	if r.foreign > 0.1 {
		r.note("Other programs of this machine used %.0f %% of its CPU meanwhile: measure again when it is quiet.", 100*r.foreign)
	}
	if len(r.notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(r.notes, "\n"))
	}
	fmt.Fprintln(out)
}

// times are latencies.
type times []time.Duration

// at returns the value that a share of the times does not exceed.
func (t times) at(share float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// String gives p50, p99 and p99.9.
func (t times) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s", short(t.at(0.5)), short(t.at(0.99)), short(t.at(0.999)))
}

// short writes a duration with the digits that count.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
