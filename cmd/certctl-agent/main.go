// Command certctl-agent runs on each node: it makes keys where they are used,
// installs certificates and proves what is served. See package agent, and
// cmd/internal/node for its commands, settings and exit codes.
package main

import (
	"os"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/cmd/internal/node"
)

func main() {
	target.StagedExec() // first: this process may be a check of a staged configuration
	os.Exit(node.Run(node.Program{
		Name: "certctl-agent", Description: "Keys and certificates of one node.", Kinds: target.Kinds(),
		ConfigFile: "/etc/certctl/agent.yaml", PolicyFile: "/etc/certctl/agent-policy.yaml", DataDir: "/var/lib/certctl-agent",
	}))
}
