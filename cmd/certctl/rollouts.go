package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certctl/certctl"
)

var rolloutColumns = columns{"id", "state", "total", "TO REPLACE=replaced", "wave", "DEADLINE=deadline", "REASON=reason", "WHY=why", "BY=created_by"}

const rolloutsPath = "/api/v1/rollouts"

type rolloutsCmd struct {
	Create rolloutCreateCmd `cmd:"" help:"Replace everything that a selection finds, in waves, by a deadline."`
	List   rolloutListCmd   `cmd:"" help:"List mass changes."`
	Get    rolloutGetCmd    `cmd:"" help:"Show one with how far each wave is; --watch follows it."`
	Stop   rolloutStopCmd   `cmd:"" help:"Hold one until it is resumed."`
	Resume rolloutResumeCmd `cmd:"" help:"Have one go on that was stopped or has halted."`
	Cancel rolloutCancelCmd `cmd:"" help:"End one for good; what is ordered goes on."`
}

// selecting says what a mass change is about, and how fast it is.
type selecting struct {
	Issuer       string            `help:"Issued by this issuer." env:"-"`
	Authority    string            `help:"Signed by the authority with this id." env:"-" placeholder:"ID"`
	Profile      string            `help:"With this profile." env:"-"`
	Certificate  string            `help:"Of this certificate." env:"-"`
	Agent        string            `help:"On this agent." env:"-"`
	Label        map[string]string `help:"With this label, key=value." env:"-" short:"l"`
	Serial       []string          `help:"With these serial numbers." env:"-" sep:","`
	IssuedBefore string            `help:"Issued before this time, RFC 3339 or a date." env:"-" placeholder:"TIME"`
	Team         string            `help:"Of this team." env:"-"`
	Deadline     string            `help:"By when everything is replaced, RFC 3339, a date, or a time from now such as 3d; default: a day." env:"-" placeholder:"TIME"`
	Canary       int               `help:"Items of the first wave; default: a hundredth." env:"-"`
	Growth       float64           `help:"Of each wave over the one before; default: 4." env:"-"`
	Patience     string            `help:"How long a wave is waited for, such as 10m; default: what the deadline allows, at most 1h." env:"-" placeholder:"TIME"`
	Threshold    float64           `help:"Share of failed items of a wave that halts; default: 0.1." env:"-"`
	Least        int               `help:"Failed items below which nothing halts; default: 2." env:"-"`
	Override     string            `help:"Why it cannot wait for the end of a freeze." env:"-" placeholder:"REASON"`
	Why          string            `help:"For those who wonder." env:"-" placeholder:"TEXT"`
	DryRun       bool              `help:"Only plan it." env:"-" name:"dry-run"`
	Watch        bool              `help:"Print each change until it is over, or needs a person." env:"-" short:"w"`
}

func (c selecting) body() (object, error) {
	body := object{"dry_run": c.DryRun}
	for field, text := range map[string]string{
		"issuer": c.Issuer, "authority": c.Authority, "profile": c.Profile, "certificate": c.Certificate, "agent": c.Agent, "team": c.Team,
		"patience": c.Patience, "override": c.Override, "why": c.Why,
	} {
		setText(body, field, text)
	}
	set(body, "serials", c.Serial)
	if len(c.Label) > 0 {
		body["labels"] = c.Label
	}
	for field, n := range map[string]int{"canary": c.Canary, "least": c.Least} {
		if n != 0 {
			body[field] = n
		}
	}
	for field, x := range map[string]float64{"growth": c.Growth, "threshold": c.Threshold} {
		if x != 0 {
			body[field] = x
		}
	}
	for field, text := range map[string]string{"issued_before": c.IssuedBefore, "deadline": c.Deadline} {
		if text == "" {
			continue
		}
		at, err := moment(text)
		if err != nil {
			return nil, err
		}
		body[field] = at.UTC().Format(time.RFC3339Nano)
	}
	return body, nil
}

// roll begins a mass change and prints it, or follows it.
func (c selecting) roll(s *session, path string, extra object) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	for field, value := range extra {
		body[field] = value
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	if c.Watch && !c.DryRun {
		return s.watchRollout(ctx, client, cell(answer, "id"))
	}
	return s.showRollout(answer)
}

type rolloutCreateCmd struct{ selecting }

func (c rolloutCreateCmd) Run(s *session) error { return c.roll(s, rolloutsPath, nil) }

type rolloutListCmd struct {
	State string `help:"running, stopped, halted, completed or cancelled." env:"-"`
	Limit int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c rolloutListCmd) Run(s *session) error {
	return s.list(rolloutsPath, params("state", c.State), c.Limit, rolloutColumns)
}

// rolloutArg is the mass change that a verb is about.
type rolloutArg struct {
	ID string `arg:"" help:"Its id."`
}

type rolloutGetCmd struct {
	rolloutArg
	Watch bool `help:"Print each change until it is over, or needs a person." env:"-" short:"w"`
}

func (c rolloutGetCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	if c.Watch {
		return s.watchRollout(ctx, client, c.ID)
	}
	answer, err := client.call(ctx, http.MethodGet, item(rolloutsPath, c.ID), nil, nil)
	if err != nil {
		return err
	}
	return s.showRollout(answer)
}

type (
	rolloutStopCmd   struct{ rolloutArg }
	rolloutResumeCmd struct{ rolloutArg }
	rolloutCancelCmd struct{ rolloutArg }
)

func (c rolloutStopCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(rolloutsPath, c.ID)+"/stop", nil, waiting{})
}

func (c rolloutResumeCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(rolloutsPath, c.ID)+"/resume", nil, waiting{})
}

func (c rolloutCancelCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(rolloutsPath, c.ID)+"/cancel", nil, waiting{})
}

// showRollout prints one with a line for each wave.
func (s *session) showRollout(r object) error {
	if s.globals.Output != "table" {
		return s.showOne(r)
	}
	if id := cell(r, "id"); id != "" {
		fmt.Fprintf(s.out, "%s   %s   %s\n", id, cell(r, "state"), cell(r, "message"))
	}
	fmt.Fprintf(s.out, "%s selected, %s to replace, deadline %s\n", cell(r, "total"), cell(r, "replaced"), cell(r, "deadline"))
	waves, _ := r["waves"].([]any)
	if err := s.show(waves, columns{"items", "pending", "ordered", "done", "failed", "skipped"}); err != nil {
		return err
	}
	problems, _ := r["problems"].([]any)
	for _, p := range problems {
		fmt.Fprintf(s.out, "   %s: %s\n", cell(p, "certificate.name"), cell(p, "message"))
	}
	return nil
}

// watchRollout prints each change of a rollout until it is over.
func (s *session) watchRollout(ctx context.Context, client *client, id string) error {
	last := ""
	for {
		r, err := client.call(ctx, http.MethodGet, item(rolloutsPath, id), nil, nil)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s   wave %s   done %s   failed %s", cell(r, "state"), cell(r, "wave"), cell(r, "waves.done"), cell(r, "waves.failed"))
		if line != last && s.globals.Output == "table" {
			last = line
			fmt.Fprintf(s.out, "%s   %s\n", time.Now().Format(time.TimeOnly), line)
		}
		switch state := cell(r, "state"); state {
		case "completed":
			return s.settled(r)
		case "halted", "stopped", "cancelled":
			if err := s.settled(r); err != nil {
				return err
			}
			return certctl.Errorf(certctl.Conflict, "the rollout %s is %s: %s", id, state, cell(r, "message")).
				WithRemedy("certctl rollouts get %s, then resume or cancel", id)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("the rollout %s is still running: %w", id, err)
		}
	}
}
