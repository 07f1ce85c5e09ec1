package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/certctl/certctl"
)

type targetsCmd struct {
	List   targetListCmd   `cmd:"" help:"List targets."`
	Get    targetGetCmd    `cmd:"" help:"Show one."`
	Create targetCreateCmd `cmd:"" help:"Make one."`
	Update targetUpdateCmd `cmd:"" help:"Replace one's settings."`
	Delete targetDeleteCmd `cmd:"" help:"Archive one that nothing is bound to."`
	Adopt  targetAdoptCmd  `cmd:"" help:"Make the targets that certctl-agent inspect has proposed, and bind what is served there."`
	Test   targetTestCmd   `cmd:"" help:"Have its agent try everything short of the switch."`
}

const targetsPath = "/api/v1/targets"

type targetListCmd struct {
	Agent string `help:"Only on this agent." env:"-"`
	Kind  string `help:"Only of this kind." env:"-"`
}

func (c targetListCmd) Run(s *session) error {
	return s.list(targetsPath, params("agent", c.Agent, "kind", c.Kind), 0, columns{"name", "kind", "AGENT=agent.name", "revision", "CREATED=created_at"})
}

type targetGetCmd struct{ nameArg }

func (c targetGetCmd) Run(s *session) error { return s.get(targetsPath, c.Name) }

type targetCreateCmd struct {
	nameArg
	Agent   string            `help:"Agent that it lives on." required:"" env:"-"`
	Kind    string            `help:"Kind, such as nginx." required:"" env:"-"`
	Setting map[string]string `help:"Settings, key=value; a.b=c nests." short:"s" env:"-"`
	ifMissing
}

func (c targetCreateCmd) Run(s *session) error {
	if there, err := c.exists(s, targetsPath, c.Name); there || err != nil {
		return err
	}
	settings, err := settingValues(c.Setting)
	if err != nil {
		return err
	}
	return s.change(http.MethodPost, targetsPath, object{"name": c.Name, "agent": c.Agent, "kind": c.Kind, "settings": settings}, waiting{})
}

type targetUpdateCmd struct {
	nameArg
	fileArg
}

func (c targetUpdateCmd) Run(s *session) error { return s.replace(targetsPath, c.Name, c.File) }

type targetDeleteCmd struct{ nameArg }

func (c targetDeleteCmd) Run(s *session) error { return s.remove(targetsPath, c.Name) }

// targetTestCmd asks for a test, and with --wait shows what came of it.
type targetTestCmd struct {
	nameArg
	Wait bool `help:"Wait for the agent's answer; what would fail is exit code 1." env:"-"`
}

func (c targetTestCmd) Run(s *session) error {
	if !c.Wait {
		return s.change(http.MethodPost, item(targetsPath, c.Name)+"/test", nil, waiting{})
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	asked, err := client.call(ctx, http.MethodPost, item(targetsPath, c.Name)+"/test", nil, nil)
	if err != nil {
		return err
	}
	test, err := tested(ctx, client, c.Name, asked["id"])
	if err != nil {
		return err
	}
	if err := s.showTest(test); err != nil {
		return err
	}
	if test["state"] != string(certctl.TestPassed) {
		return certctl.Errorf(certctl.Conflict, "the test of %s has %s", c.Name, test["state"])
	}
	return nil
}

// tested waits for the end of a test.
func tested(ctx context.Context, client *client, name string, id any) (object, error) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		target, err := client.call(ctx, http.MethodGet, item(targetsPath, name), nil, nil)
		if err != nil {
			return nil, err
		}
		test, _ := target["test"].(object)
		switch {
		case test["id"] != id:
			return nil, certctl.Errorf(certctl.Conflict, "somebody else has asked for another test of %s meanwhile", name)
		case test["state"] != string(certctl.TestPending):
			return test, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// showTest prints a test: in a table each step with what was found, and what to do.
func (s *session) showTest(test object) error {
	if s.globals.Output != "table" {
		return s.showOne(test)
	}
	steps, _ := test["steps"].([]any)
	writer := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	for _, step := range steps {
		fmt.Fprintf(writer, "%s\t%s\t%s\t%s\n", cell(step, "state"), cell(step, "step"), cell(step, "subject"), cell(step, "message"))
		if remedy := cell(step, "remedy"); remedy != "" {
			fmt.Fprintf(writer, "\t\t\tremedy: %s\n", remedy)
		}
	}
	return writer.Flush()
}
