package node

import (
	"context"
	"path/filepath"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/agent/target"
)

// targets offers the drivers of a table.
func targets(kinds target.Table, dir string, policy *agent.Policy, fault func(string)) agent.Targets {
	env := target.Env{Policy: policy, Now: time.Now, StateDir: filepath.Join(dir, "targets"), Fault: fault}
	out := agent.Targets{Open: func(spec certctl.TargetCommand) (agent.Target, error) {
		opened, err := kinds.Open(spec, env)
		if err != nil {
			return nil, err
		}
		if tester, can := opened.(agent.Tester); can {
			return tried{driver{opened}, tester}, nil
		}
		return driver{opened}, nil
	}}
	out.Denied = func(spec certctl.TargetCommand) []error { return kinds.Denied(spec, policy) }
	for _, kind := range kinds {
		out.Kinds = append(out.Kinds, kind.Kind)
	}
	return out
}

// driver is an opened target as package agent wants it.
type driver struct{ target.Opened }

var (
	_ agent.Inspector = driver{}
	_ agent.Eraser    = driver{}
	_ agent.Reader    = driver{}
	_ agent.Binder    = driver{}

	_ target.SocketPolicy = (*agent.Policy)(nil)
)

// tried is a driver whose target can be tested without a change.
type tried struct {
	driver
	agent.Tester
}

var (
	_ agent.Tester    = tried{}
	_ agent.Inspector = tried{}
	_ agent.Tester    = (*target.Target)(nil)
)

func (d driver) Apply(ctx context.Context, installs []agent.Install) []certctl.Receipt {
	converted := make([]target.Install, len(installs))
	for i, install := range installs {
		converted[i] = target.Install(install)
	}
	return d.Opened.Apply(ctx, converted)
}

// Bind tells a target that hands out certificates itself what is bound to it. Others
// have no need to know.
func (d driver) Bind(places func() []agent.Place) {
	binder, ok := d.Opened.(target.Binder)
	if !ok {
		return
	}
	binder.Bind(func() []target.Place {
		var bound []target.Place
		for _, place := range places() {
			bound = append(bound, target.Place(place))
		}
		return bound
	})
}

// Close ends what such a target hands out.
func (d driver) Close() error {
	if binder, ok := d.Opened.(target.Binder); ok {
		return binder.Close()
	}
	return nil
}
