package node

import (
	"encoding/pem"
	"os"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// Config is every setting of an agent. Each flag is also the variable
// CERTCTL_<FLAG> and a key of the YAML file, in this order of precedence.
type Config struct {
	Config    string `help:"Settings as YAML; ${config_file} is read when it exists." placeholder:"FILE"`
	DataDir   string `help:"The agent's state: keys, identity, journal. Nobody else may write to it." default:"${data_dir}" type:"path"`
	Policy    string `help:"What this agent may touch on this node; ${policy_file} when it exists, else a built-in policy." placeholder:"FILE"`
	LogLevel  string `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
	MachineID string `help:"Names this machine instead of /etc/machine-id, at enrolment and ever after." placeholder:"ID"`

	Enroll    enrollCommand  `cmd:"" help:"Make this machine an agent. Doing so again changes nothing."`
	Run       runCommand     `cmd:"" help:"Run the agent until SIGTERM."`
	Health    healthCommand  `cmd:"" help:"Ask the running agent how it is; fails when none runs."`
	PolicyCmd policyCommands `cmd:"" name:"policy" help:"What this agent may touch on this node."`
	Inspect   inspectCommand `cmd:"" help:"Read a daemon's configuration and propose targets for it. Changes nothing."`
	Seed      seedCommand    `cmd:"" help:"Make what is served today the first generation of each place that inspect has proposed."`
	Version   struct{}       `cmd:"" help:"Print the version."`

	program Program
}

// enrolment is what makes this machine an agent.
type enrolment struct {
	Server        string            `help:"URL of the server's API, https://host:port."`
	Token         string            `help:"Join token." secret:""`
	CAFingerprint string            `help:"SHA-256 of the server's root certificate." name:"ca-fingerprint"`
	CAFile        string            `help:"The server's root certificate in a PEM file, instead of its SHA-256." type:"path" name:"ca-file"`
	Name          string            `help:"The agent's name; default: the host's." placeholder:"NAME"`
	Labels        map[string]string `help:"Labels of the agent, key=value;key=value."`
}

type enrollCommand struct{ enrolment }

type runCommand struct {
	enrolment
	Parallel int `help:"How many targets are worked on at a time, 1 to 64." default:"4"`
}

type healthCommand struct {
	MaxSilence time.Duration `help:"Fail also when the server has not answered for so long; 0: never, the agent works off line." default:"0s"`
	Output     string        `help:"text or json." default:"text" enum:"text,json"`
}

type policyCommands struct {
	Check struct{} `cmd:"" help:"Check the policy file and print what holds."`
}

// Validate refuses impossible values.
func (c runCommand) Validate() error {
	if c.Parallel < 1 || c.Parallel > 64 {
		return certctl.InvalidField("parallel", "must be from 1 to 64")
	}
	return nil
}

// policyFile returns the policy's path and whether somebody named it.
func (c Config) policyFile() (path string, named bool) {
	if c.Policy != "" {
		return c.Policy, true
	}
	return c.program.PolicyFile, false
}

// complete refuses what nobody can enrol with, and takes the fingerprint from the
// file.
func (c *enrolment) complete() error {
	switch {
	case c.Server == "":
		return certctl.InvalidField("server", "is needed to enrol")
	case c.Token == "":
		return certctl.InvalidField("token", "is needed to enrol")
	case c.CAFingerprint != "" && c.CAFile != "":
		return certctl.InvalidField("ca_file", "ca_fingerprint is set as well: unset one of them")
	case c.CAFingerprint != "":
		return nil
	case c.CAFile == "":
		return certctl.InvalidField("ca_fingerprint", "is needed to enrol, or ca_file: the token comes with it")
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the root certificate cannot be read")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return certctl.InvalidField("ca_file", "%s holds no certificate", c.CAFile)
	}
	c.CAFingerprint = certctl.DigestOf(block.Bytes).String()
	return nil
}

// agentName is the name to enrol under.
func (c enrolment) agentName() (string, error) {
	if c.Name != "" {
		return c.Name, nil
	}
	return os.Hostname()
}

func (c Config) logger() zerolog.Logger {
	level, _ := zerolog.ParseLevel(c.LogLevel) // one of the enum
	return zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger()
}
