// Package remote is the kinds of targets that are not on the node that serves
// them: hosts without an agent, which certctl-proxy reaches. So is what of the node
// itself takes large libraries. Nothing of it is linked by certctl-agent.
//
// The keys of such targets are made and kept on the proxy's node, and are on the
// target: nowhere else. Where the target is a store of a vendor, a depot, the vendor
// gets them: that is what such a kind is for, and the node's policy must name it
// and its host. What logs in to it is the node's, never the server's: otherwise a
// server that was taken over could name an account of its own. The package reaches no host, reads no file and runs no
// command that the policy of the proxy's node does not allow, and no host whose
// identity it cannot check.
package remote

import (
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Kinds are all that a proxy serves: the agent's kinds, and those of this package.
func Kinds() target.Table {
	return KindsServing(nil)
}

// KindsServing are those of a program that serves kind sds, too, with package sds; nil:
// of one that knows its settings only, so that it need not link that.
func KindsServing(sds func(*unixsock.Listener) target.Outlet) target.Table {
	return slices.Concat(target.Kinds(), target.Table{sshKind, kubernetesSecretKind, awsACMKind, gcpCertificateKind, target.ServiceKind(target.Descriptor{
		Kind: "sds", Title: "Envoy and others, by gRPC (SDS)", Experimental: true,
	}, sds)})
}

// HostPolicy is a node's policy that knows of other hosts. One that does not
// allows none.
type HostPolicy interface {
	AllowHost(address string) error // host:port
}

// allow holds a host, and the files of this node that lead to it, against the policy.
func allow(p target.Policy, address string, files ...string) error {
	hosts, ok := p.(HostPolicy)
	if !ok {
		return certctl.Errorf(certctl.Denied, "the policy of this node allows no other hosts")
	}
	if err := hosts.AllowHost(address); err != nil {
		return err
	}
	for _, path := range files {
		if path == "" {
			continue
		}
		if err := p.AllowConfig(path); err != nil {
			return err
		}
	}
	return nil
}
