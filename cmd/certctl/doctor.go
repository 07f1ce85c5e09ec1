package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

type doctorCmd struct{}

// finding is one line of doctor's report.
type finding struct {
	name string
	ok   bool
	text string
}

// Run looks at what an operator would look at first: can the API be reached,
// is it ready, are agents there, is anything degraded, refused, about to
// expire or set aside. It changes nothing.
func (doctorCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	findings := client.ready(ctx)
	if findings[0].ok {
		for _, look := range []struct {
			name, path, bad string
			query           url.Values
		}{
			{"agents", agentsPath, "offline", params("state", "active", "presence", "offline")},
			{"identities", agentsPath, "used by two machines", params("state", "conflict")},
			{"approvals", agentsPath, "waiting for approval", params("state", "pending")},
			{"certificates", certificatesPath, "degraded", params("status", "degraded")},
			{"requests", certificatesPath, "refused", params("status", "refused")},
			{"expiry", certificatesPath, "ending within a week", params("expires_before", time.Now().Add(7*24*time.Hour).UTC().Format(time.RFC3339))},
			{"dead letters", deadPath, "set aside", params()},
		} {
			findings = append(findings, client.none(ctx, look.name, look.path, look.bad, look.query))
		}
	}
	for _, f := range findings {
		mark := "ok  "
		if !f.ok {
			mark = "BAD "
		}
		fmt.Fprintf(s.out, "%s %-14s %s\n", mark, f.name, f.text)
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return !f.ok }) {
		return errUnhealthy
	}
	return nil
}

// ready finds out whether the API is, and what it says of itself.
func (c *client) ready(ctx context.Context) []finding {
	answer, err := c.call(ctx, http.MethodGet, "/ready", nil, nil)
	if err != nil {
		return []finding{{"api", false, err.Error()}}
	}
	api, rest := finding{"api", true, "ready"}, []finding{}
	checks, _ := answer["checks"].(object)
	for name, state := range checks {
		switch {
		case state == "ok":
		case name == "recovery":
			rest = append(rest, finding{"recovery", false, "goes on after a restore: certctl-server recovery status"})
		default:
			api = finding{"api", state == "degraded", fmt.Sprintf("%s is %v", name, state)}
		}
	}
	return append([]finding{api}, rest...)
}

// none finds nothing wrong when a list is empty.
func (c *client) none(ctx context.Context, name, path, bad string, query url.Values) finding {
	items, err := c.list(ctx, path, query, 100)
	switch {
	case err != nil:
		return finding{name, false, err.Error()}
	case len(items) == 0:
		return finding{name, true, "none " + bad}
	}
	first := cell(items[0], "name")
	if first == "" {
		first = cell(items[0], "id")
	}
	return finding{name, false, fmt.Sprintf("%d %s, such as %s", len(items), bad, first)}
}
