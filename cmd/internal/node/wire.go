package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/cmd/internal/edition"
)

// healthTimeout is how long a running agent may take to say how it is.
const healthTimeout = 5 * time.Second

func enroll(ctx context.Context, c Config, e enrolment) error {
	if err := e.complete(); err != nil {
		return err
	}
	name, err := e.agentName()
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "this host has no name: give --name")
	}
	id, err := agent.Enrol(ctx, agent.EnrolOptions{
		Server: e.Server, Token: e.Token, CAFingerprint: e.CAFingerprint, Name: name,
		Dir: c.DataDir, MachineID: c.MachineID, Labels: e.Labels, Version: edition.Version(), NewBusKey: newBusKey,
	})
	if err != nil {
		return err
	}
	fmt.Printf("enrolled as %s, agent %s of installation %s\n", id.Name, id.Agent, id.Installation)
	return nil
}

// enrollOnce enrols a machine that is no agent yet, when there is a token for it:
// images and packages start an agent without a step of its own.
func enrollOnce(ctx context.Context, c Config) error {
	_, err := agent.LoadIdentity(c.DataDir)
	if certctl.ErrorCode(err) != certctl.NotFound || c.Run.Token == "" {
		return nil // what there is decides, or run says what is missing
	}
	return enroll(ctx, c, c.Run.enrolment)
}

func runAgent(ctx context.Context, c Config) error {
	if err := enrollOnce(ctx, c); err != nil {
		return err
	}
	path, named := c.policyFile()
	policy, err := agent.LoadPolicy(path, c.DataDir, named)
	if err != nil {
		return err
	}
	log := c.logger()
	fault := faultHook(os.Environ())
	a, err := agent.New(agent.Options{
		Dir: c.DataDir, Policy: policy, Version: edition.Version(), MachineID: c.MachineID, Parallel: c.Run.Parallel,
		Dial: dial(log), Targets: targets(c.program.Kinds, c.DataDir, policy, fault), Log: log, Fault: fault,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

func health(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	live, err := agent.Health(ctx, c.DataDir)
	if err != nil {
		return err
	}
	if c.Health.Output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(live); err != nil {
			return err
		}
	} else {
		fmt.Println(live)
	}
	return live.Healthy(time.Now(), c.Health.MaxSilence)
}

func checkPolicy(c Config) error {
	path, named := c.policyFile()
	policy, err := agent.LoadPolicy(path, c.DataDir, named)
	if err != nil {
		return err
	}
	fmt.Printf("# %s\n%s", policy.Source(), policy)
	return nil
}
