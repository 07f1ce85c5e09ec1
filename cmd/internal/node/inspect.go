package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/agent/discover"
	"github.com/certctl/certctl/agent/target"
	"go.yaml.in/yaml/v3"
)

type inspectCommand struct {
	Kind         string   `arg:"" help:"nginx, apache or haproxy."`
	DaemonConfig string   `help:"The daemon's main configuration file; default: where packages have it." env:"-" placeholder:"FILE"`
	Binary       string   `help:"The daemon's program; default: where packages have it." env:"-" placeholder:"FILE"`
	PIDFile      string   `help:"The daemon's pid file; default: where packages have it." name:"pid-file" env:"-" placeholder:"FILE"`
	Reload       []string `help:"A command to reload the daemon with, instead of a signal: /usr/bin/systemctl,reload,nginx." env:"-" sep:","`
	Directory    string   `help:"Where the certificates are to be; default: /etc/certctl/live/KIND." env:"-" placeholder:"DIR"`
	Agent        string   `help:"Name of the agent; default: this node's." env:"-" placeholder:"NAME"`
	Output       string   `help:"yaml or json, or patch: only the change of the configuration." short:"o" env:"-" default:"yaml" enum:"yaml,json,patch"`
}

type seedCommand struct {
	File string `help:"What inspect has proposed, - for standard input." short:"f" required:"" env:"-" placeholder:"FILE"`
}

// inspect prints what a daemon's configuration suggests. It changes nothing.
func inspect(ctx context.Context, c Config) error {
	i := c.Inspect
	name := i.Agent
	if name == "" {
		var err error
		if name, err = c.nodeName(); err != nil {
			return err
		}
	}
	proposal, err := discover.Inspect(ctx, i.Kind, name, discover.Options{
		Config: i.DaemonConfig, Binary: i.Binary, PIDFile: i.PIDFile, Directory: i.Directory, Reload: i.Reload,
	})
	if err != nil {
		return err
	}
	path, named := c.policyFile()
	policy, err := agent.LoadPolicy(path, c.DataDir, named)
	if err != nil {
		return err
	}
	if proposal.Policy, err = lacking(c.program.Kinds, policy, proposal.Targets); err != nil {
		return err
	}
	switch i.Output {
	case "patch":
		_, err = io.WriteString(os.Stdout, proposal.Changes)
		return err
	case "json":
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(proposal)
	}
	encoder := yaml.NewEncoder(os.Stdout)
	encoder.SetIndent(2)
	return encoder.Encode(proposal)
}

// nodeName is the enrolled agent's name, or the host's.
func (c Config) nodeName() (string, error) {
	if id, err := agent.LoadIdentity(c.DataDir); err == nil {
		return id.Name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "this host has no name: give --agent")
	}
	return name, nil
}

// lacking are the lines that a policy needs for targets and has not; nil for none.
func lacking(kinds target.Table, policy *agent.Policy, targets []discover.Target) (*discover.Policy, error) {
	out := &discover.Policy{}
	for _, t := range targets {
		settings, err := json.Marshal(t.Settings)
		if err != nil {
			return nil, err
		}
		needs, err := kinds.Needs(t.Kind, settings)
		if err != nil {
			return nil, err
		}
		if policy.AllowKind(t.Kind) != nil {
			out.Kinds = once(out.Kinds, t.Kind)
		}
		for _, path := range needs.Directories {
			if policy.AllowDirectory(path) != nil {
				out.Directories = once(out.Directories, path)
			}
		}
		for _, path := range needs.Configs {
			if policy.AllowConfig(path) != nil {
				out.ConfigRoots = once(out.ConfigRoots, filepath.Dir(path))
			}
		}
		for _, argv := range needs.Commands {
			if policy.AllowCommand(argv) != nil && !slices.ContainsFunc(out.Commands, func(known []string) bool { return slices.Equal(known, argv) }) {
				out.Commands = append(out.Commands, argv)
			}
		}
	}
	if len(out.Kinds)+len(out.Directories)+len(out.ConfigRoots)+len(out.Commands) == 0 {
		return nil, nil //nolint:nilnil // nothing is lacking
	}
	return out, nil
}

func once(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// seed makes what is served today the first generation of each place.
func seed(c Config) error {
	content, err := readProposal(c.Seed.File)
	if err != nil {
		return err
	}
	var proposal discover.Proposal
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&proposal); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "this is not what inspect prints")
	}
	path, named := c.policyFile()
	policy, err := agent.LoadPolicy(path, c.DataDir, named)
	if err != nil {
		return err
	}
	env := target.Env{Policy: policy, Now: time.Now, StateDir: filepath.Join(c.DataDir, "targets")}
	var failed []error // what can be taken over is, whatever else cannot
	for _, t := range proposal.Targets {
		failed = append(failed, seedTarget(c.program.Kinds, policy, t, env))
	}
	return errors.Join(failed...)
}

func readProposal(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the proposal cannot be read")
	}
	return content, nil
}

func seedTarget(kinds target.Table, policy *agent.Policy, t discover.Target, env target.Env) error {
	if err := policy.AllowKind(t.Kind); err != nil {
		return err
	}
	settings, err := json.Marshal(t.Settings)
	if err != nil {
		return err
	}
	opened, err := kinds.Open(certctl.TargetCommand{Name: t.Name, Kind: t.Kind, Settings: settings}, env)
	if err != nil {
		return err
	}
	local, ok := opened.(*target.Target)
	if !ok {
		return certctl.Errorf(certctl.Invalid, "targets of kind %s have no generations on this node", t.Kind)
	}
	var failed []error
	for _, p := range t.Places {
		if err := seedPlace(local, t, p); err != nil {
			failed = append(failed, certctl.Wrap(certctl.ErrorCode(err), err, "%s %s: %s cannot be taken over", t.Name, p.Place, p.Certificate))
		}
	}
	return errors.Join(failed...)
}

func seedPlace(local *target.Target, t discover.Target, p discover.Place) error {
	pair, err := p.Files(t.Kind).Read()
	if err != nil {
		return err
	}
	made, err := local.Seed(p.Place, p.Slot, pair.Leaf, pair.Chain, pair.Key)
	switch {
	case err != nil:
		return err
	case made:
		fmt.Printf("%s %s: the first generation is %s\n", t.Name, p.Place, p.Certificate)
	default:
		fmt.Printf("%s %s: has a generation already, and is left as it is\n", t.Name, p.Place)
	}
	return nil
}
