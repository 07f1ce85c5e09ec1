package certctl

import (
	"encoding/json"
	"strconv"
	"time"
)

// Channel is where people are told of events: mailboxes, a chat room, an on-call
// service, a program's web hook.
type Channel struct {
	ID       ID
	Team     string
	Name     string
	Kind     string // a row of handlers/notifier's table
	Settings json.RawMessage
	Rules    []ChannelRule // what it is told: all that any of them selects
	// DigestAt is the time of day, HH:MM in DigestZone, at which all that came up
	// since is told at once; "" tells at once.
	DigestAt   string
	DigestZone string // IANA name
	// Failures counts deliveries in a row that failed; Message says why the last did.
	Failures    int
	Message     string
	DeliveredAt time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time
	ArchivedAt  time.Time
}

// ChannelRule selects events; a field that is not set selects all.
type ChannelRule struct {
	Events   []EventName       `json:"events,omitempty"`
	Severity Severity          `json:"severity"`         // at least
	Labels   map[string]string `json:"labels,omitempty"` // of the certificate, so that events of others are not selected
	Owner    string            `json:"owner,omitempty"`  // likewise
	Team     string            `json:"team,omitempty"`   // of the object; only in channels of the default team, which otherwise hear all
}

// Bounds of a channel.
const (
	MaxChannelRules = 32
	maxRuleEvents   = 100
)

// DefaultChannelRules tell of all that is not just information.
func DefaultChannelRules() []ChannelRule { return []ChannelRule{{Severity: SeverityWarning}} }

// ChannelRequest makes or changes a channel.
type ChannelRequest struct {
	ID         ID // of a new channel, drawn by whoever sealed its secrets, which are bound to it
	Team       string
	Name       string
	Kind       string // fixed once made
	Settings   json.RawMessage
	Sealed     []byte // secrets, under the "secrets" KEK; nil keeps those that it has
	Rules      []ChannelRule
	DigestAt   string
	DigestZone string
}

// Validate refuses what no kind of channel could mean, and fills in what the
// request leaves out. team is the name of the team that the channel belongs to.
func (r *ChannelRequest) Validate(team string) error {
	var bad FieldErrors
	bad.AddError("/name", CheckObjectName(r.Name))
	if r.Kind == "" {
		bad.Add("/kind", "is missing")
	}
	if len(r.Rules) == 0 {
		r.Rules = DefaultChannelRules()
	}
	if len(r.Rules) > MaxChannelRules {
		bad.Add("/rules", "at most %d", MaxChannelRules)
	}
	for i := range r.Rules {
		r.Rules[i].check(&bad, "/rules/"+strconv.Itoa(i), team)
	}
	if r.DigestAt != "" {
		if _, err := time.Parse("15:04", r.DigestAt); err != nil || len(r.DigestAt) != len("15:04") {
			bad.Add("/digest/at", "must be a time of day such as 08:00")
		}
		if r.DigestZone == "" {
			r.DigestZone = "UTC"
		}
		if _, err := time.LoadLocation(r.DigestZone); err != nil || r.DigestZone == "Local" {
			bad.Add("/digest/zone", "there is no time zone %q: use a name such as Europe/Berlin", Clip(r.DigestZone, 40))
		}
	}
	return bad.Err()
}

func (r *ChannelRule) check(bad *FieldErrors, field, team string) {
	if r.Severity == 0 {
		r.Severity = SeverityWarning
		if len(r.Events) > 0 {
			r.Severity = SeverityInfo // they were asked for by name
		}
	}
	if len(r.Events) > maxRuleEvents {
		bad.Add(field+"/events", "at most %d", maxRuleEvents)
	}
	for i, name := range r.Events {
		if !name.Known() {
			bad.Add(field+"/events/"+strconv.Itoa(i), "there is no event %q", Clip(string(name), 40))
		}
	}
	bad.AddError(field, CheckLabels(r.Labels))
	if r.Team != "" && team != DefaultTeam && r.Team != team {
		bad.Add(field+"/team", "a channel of the team %s hears of that team alone", team)
	}
}
