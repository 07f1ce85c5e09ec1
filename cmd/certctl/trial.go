package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certctl/certctl"
)

const testsPath = "/api/v1/certificate-tests"

type certTestCmd struct {
	Name   string `arg:"" optional:"" help:"Name or id."`
	File   string `help:"One that is not made yet, as it would be submitted: YAML or JSON, - for standard input." env:"-" short:"f" placeholder:"FILE"`
	Issuer string `help:"At this one of its issuers; default: the first." env:"-"`
	Wait   bool   `help:"Print its steps until it has passed or failed." env:"-"`
}

// Run has a certificate tested at the staging directory of its issuer.
func (c certTestCmd) Run(s *session) error {
	path, body := item(certificatesPath, c.Name)+"/test", object{}
	switch {
	case (c.Name == "") == (c.File == ""):
		return certctl.Errorf(certctl.Invalid, "name a certificate, or a file with -f")
	case c.File != "" && c.Issuer != "":
		return certctl.Errorf(certctl.Invalid, "--issuer goes with the name of a certificate: the file names its issuers")
	case c.File != "":
		read, err := readObject(c.File)
		if err != nil {
			return err
		}
		path, body = testsPath, read
	default:
		setText(body, "issuer", c.Issuer)
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
	if c.Wait {
		return s.awaitTest(ctx, client, answer)
	}
	return s.showOne(answer)
}

// awaitTest looks until a test has ended, printing each step and what it waits for.
func (s *session) awaitTest(ctx context.Context, client *client, test object) error {
	printed, last, id := 0, "", cell(test, "id")
	table := s.globals.Output == "table"
	if table {
		fmt.Fprintf(s.out, "asking %s\n", cell(test, "directory"))
	}
	for {
		var err error
		if test, err = client.call(ctx, http.MethodGet, item(testsPath, id), nil, nil); err != nil {
			return err
		}
		steps, _ := test["steps"].([]any)
		for ; table && printed < len(steps); printed++ {
			at, _ := time.Parse(time.RFC3339Nano, cell(steps[printed], "at"))
			fmt.Fprintf(s.out, "%s   %s\n", at.Local().Format(time.TimeOnly), cell(steps[printed], "step"))
		}
		outcome, message := cell(test, "outcome"), cell(test, "message")
		if table && outcome == "running" && message != last {
			last = message
			fmt.Fprintf(s.out, "           waits: %s\n", message)
		}
		if outcome != "running" {
			return s.tested(test, outcome, message)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("the test of %s still runs: %w", cell(test, "name"), err)
		}
	}
}

func (s *session) tested(test object, outcome, message string) error {
	if s.globals.Output != "table" {
		if err := s.showOne(test); err != nil {
			return err
		}
	}
	if outcome == "passed" {
		if s.globals.Output == "table" {
			fmt.Fprintf(s.out, "passed: %s could be issued\n", cell(test, "name"))
		}
		return nil
	}
	return certctl.Errorf(certctl.Conflict, "the test of %s has failed (%s): %s", cell(test, "name"), cell(test, "error_code"), message)
}
