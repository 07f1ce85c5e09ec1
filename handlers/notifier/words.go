package notifier

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// maxLines is how many notifications a message names one by one.
const maxLines = 25

// facts are the data of events that people are told, in their order.
type facts struct {
	Name     string      `json:"name"`
	Target   string      `json:"target_name"`
	Code     string      `json:"code"`
	NotAfter time.Time   `json:"not_after"`
	Serial   string      `json:"serial"`
	RetryAt  time.Time   `json:"retry_at"`
	Verb     string      `json:"verb"`
	Wave     int         `json:"wave"`
	Keys     json.Number `json:"keys"`
	Fleet    json.Number `json:"fleet"`
	Release  string      `json:"release"`
}

// factsOf reads what there is; what is no such event has none.
func factsOf(e certctl.Event) (f facts) {
	_ = json.Unmarshal(e.Data, &f) // fields of other types stay empty
	return f
}

// summary is one line: what happened to what.
func summary(n certctl.Notification) string {
	f := factsOf(n.Event)
	text := n.Event.Name.Title()
	if n.Event.Name == "" {
		text = "an event that is not kept any more"
	}
	if f.Name != "" {
		text += ": " + f.Name
	}
	if f.Target != "" {
		text += " on " + f.Target
	}
	return text
}

// details are what else is known, as "key value" pairs.
func details(n certctl.Notification) (pairs [][2]string) {
	f := factsOf(n.Event)
	add := func(key, value string) {
		if value != "" {
			pairs = append(pairs, [2]string{key, value})
		}
	}
	add("reason", strings.ReplaceAll(f.Code, "_", " "))
	if !f.NotAfter.IsZero() {
		add("ends", stamp(f.NotAfter)+left(f.NotAfter, n.Event.Time))
	}
	add("serial", f.Serial)
	if !f.RetryAt.IsZero() {
		add("next try", stamp(f.RetryAt))
	}
	add("work", f.Verb)
	if f.Wave > 0 {
		add("wave", fmt.Sprint(f.Wave))
	}
	if f.Keys != "" && f.Fleet != "" {
		add("keys", string(f.Keys)+" of "+string(f.Fleet))
	}
	add("release it with", f.Release)
	if f.Name != "" && n.Event.Aggregate == certctl.AggregateCertificate && n.Severity >= certctl.SeverityWarning {
		add("see", "certctl certificates explain "+f.Name)
	}
	if n.Event.Team != "" && n.Event.Team != certctl.DefaultTeam {
		add("team", n.Event.Team)
	}
	if n.Event.ActorKind == certctl.PrincipalUser || n.Event.ActorKind == certctl.PrincipalService {
		add("by", n.Event.Actor)
	}
	return pairs
}

// left is the time that was left when it was told, roughly.
func left(until, now time.Time) string {
	switch d := until.Sub(now); {
	case d <= 0:
		return ", has ended"
	case d < time.Hour:
		return fmt.Sprintf(", in %d minutes", int(d.Minutes()))
	case d < 2*certctl.Day:
		return fmt.Sprintf(", in %d hours", int(d.Hours()))
	default:
		return fmt.Sprintf(", in %d days", int(d/certctl.Day))
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// word is the severity, or that a trouble is over.
func word(n certctl.Notification) string {
	if n.Ends {
		return "resolved"
	}
	return n.Severity.String()
}

// worst is the notification that a message of several is headed by.
func worst(all []certctl.Notification) certctl.Notification {
	first := all[0]
	for _, n := range all {
		if !n.Ends && (first.Ends || n.Severity > first.Severity) {
			first = n
		}
	}
	return first
}

// title heads a message about notifications.
func title(all []certctl.Notification) string {
	first := worst(all)
	text := word(first) + ": " + summary(first)
	if len(all) > 1 {
		text += fmt.Sprintf(" (and %d more)", len(all)-1)
	}
	return text
}

// lines are the notifications, one a line, through what escapes for the channel.
func lines(all []certctl.Notification, escape func(string) string) []string {
	var out []string
	for i, n := range all {
		if i == maxLines {
			out = append(out, fmt.Sprintf("… and %d more: certctl notifications list", len(all)-i))
			break
		}
		text := word(n) + ": " + summary(n)
		var more []string
		for _, pair := range details(n) {
			more = append(more, pair[0]+" "+pair[1])
		}
		if len(more) > 0 {
			text += " — " + strings.Join(more, "; ")
		}
		out = append(out, escape(text+" ("+stamp(n.Event.Time)+")"))
	}
	return out
}

func asIs(text string) string { return text }

// bounded joins lines up to a size in bytes that a channel takes.
func bounded(all []string, limit int) string {
	var b strings.Builder
	for i, line := range all {
		if b.Len()+len(line)+1 > limit-60 {
			fmt.Fprintf(&b, "… and %d more: certctl notifications list", len(all)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.String()
}
