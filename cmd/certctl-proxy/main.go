// Command certctl-proxy is certctl-agent with a larger table of kinds: it also
// serves hosts that have no agent, stores that are reached over the network, and Envoy
// over gRPC.
// Their keys are made and kept on its node. See agent/target/remote, and
// cmd/internal/node for its commands, settings and exit codes.
package main

import (
	"os"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/remote/sds"
	"github.com/certctl/certctl/cmd/internal/node"
)

func main() {
	target.StagedExec() // first: this process may be a check of a staged configuration
	os.Exit(node.Run(node.Program{
		Name: "certctl-proxy", Description: "Keys and certificates of hosts without an agent.", Kinds: remote.KindsServing(sds.Start),
		ConfigFile: "/etc/certctl/proxy.yaml", PolicyFile: "/etc/certctl/proxy-policy.yaml", DataDir: "/var/lib/certctl-proxy",
	}))
}
