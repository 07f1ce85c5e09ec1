package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/agent/target"
)

// targets offers the drivers of agent/target.
func targets(dir string, policy *agent.Policy, fault func(string)) agent.Targets {
	env := target.Env{Policy: policy, Now: time.Now, StateDir: filepath.Join(dir, "targets"), Fault: fault}
	out := agent.Targets{Open: func(spec certctl.TargetCommand) (agent.Target, error) {
		opened, err := target.Open(spec, env)
		if err != nil {
			return nil, err
		}
		return driver{opened}, nil
	}}
	for _, kind := range target.Kinds() {
		out.Kinds = append(out.Kinds, kind.Kind)
	}
	return out
}

// driver is an opened target as package agent wants it.
type driver struct{ *target.Target }

var (
	_ agent.Inspector = driver{}
	_ agent.Eraser    = driver{}
)

func (d driver) Apply(ctx context.Context, installs []agent.Install) []certctl.Receipt {
	converted := make([]target.Install, len(installs))
	for i, install := range installs {
		converted[i] = target.Install(install)
	}
	return d.Target.Apply(ctx, converted)
}
