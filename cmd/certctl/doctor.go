package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

type doctorCmd struct {
	All         doctorAllCmd         `cmd:"" default:"1" help:"Look for what is wrong anywhere."`
	Certificate doctorCertificateCmd `cmd:"" help:"Look at what its CAs will look at before they issue: CAA records, addresses, the answer on port 80, the zone."`
}

type doctorAllCmd struct{}

type doctorCertificateCmd struct{ nameArg }

// finding is one line of doctor's report.
type finding struct {
	name string
	ok   bool
	text string
}

// Run looks at what an operator would look at first: can the API be reached,
// is it ready, are agents there, is anything degraded, refused, about to
// expire or set aside. It changes nothing.
func (doctorAllCmd) Run(s *session) error {
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
	return report(s, findings, 14)
}

// Run has the API look, and changes nothing.
func (c doctorCertificateCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodGet, item(certificatesPath, c.Name)+"/preflight", nil, nil)
	if err != nil {
		return err
	}
	if s.globals.Output != "table" {
		if err := s.showOne(answer); err != nil || answer["ok"] == true {
			return err
		}
		return errUnhealthy
	}
	var findings []finding
	issuers, _ := answer["issuers"].([]any)
	for _, issuer := range issuers {
		checks, _ := issuer.(object)["checks"].([]any)
		if len(checks) == 0 {
			findings = append(findings, finding{cell(issuer, "issuer.name"), true, "asks nobody before it issues"})
		}
		for _, check := range checks {
			name, text := cell(check, "name"), cell(check, "check")+": "+cell(check, "message")
			if name == "" {
				name = cell(issuer, "issuer.name")
			}
			if remedy := cell(check, "remedy"); remedy != "" {
				text += "; " + remedy
			}
			findings = append(findings, finding{name, check.(object)["ok"] == true, text})
		}
	}
	width := 14
	for _, f := range findings {
		width = max(width, len(f.name))
	}
	return report(s, findings, width)
}

// report prints findings, and fails when one is not well.
func report(s *session, findings []finding, width int) error {
	for _, f := range findings {
		mark := "ok  "
		if !f.ok {
			mark = "BAD "
		}
		fmt.Fprintf(s.out, "%s %-*s %s\n", mark, width, f.name, f.text)
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
