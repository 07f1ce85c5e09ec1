package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus/broker"
	"github.com/certctl/certctl/handlers"
	"github.com/rs/zerolog"
)

// busCommands set up an external NATS.
type busCommands struct {
	Init busInitCommand `cmd:"" help:"Write configuration, accounts and credentials for an external NATS into a new folder."`
}

type busInitCommand struct {
	Dir       string   `arg:"" help:"Folder to write to; it must not hold an earlier run's files."`
	Node      []string `help:"A server: name=host:port. In a cluster of three or five: name=host:port,route=host:port,zone=name. Repeat for each." required:"" env:"-" sep:";"`
	StoreDir  string   `help:"Folder of a server's streams, as the server sees it." default:"/var/lib/nats" env:"-"`
	CertFile  string   `help:"TLS certificate of a server, as it sees it." default:"/etc/nats/tls.crt" env:"-"`
	KeyFile   string   `help:"Its private key." default:"/etc/nats/tls.key" env:"-"`
	TrustCA   string   `help:"CA that servers of a cluster trust for each other." default:"/etc/nats/ca.crt" env:"-" name:"trust-ca"`
	IfMissing bool     `help:"Do nothing when the folder holds the configuration already." env:"-"`
	StoreKey  string   `help:"Environment variable from which a server takes the key that encrypts its files." env:"-"`
}

// busInit derives everything from the bus identity in the database, which the
// first start of a signer, or this command, makes.
func busInit(ctx context.Context, c *Config, command busInitCommand, log zerolog.Logger) error {
	written, err := busWrite(ctx, c, command, log)
	for _, path := range written {
		fmt.Println(path)
	}
	return err
}

// busWrite returns what it has written.
func busWrite(ctx context.Context, c *Config, command busInitCommand, log zerolog.Logger) ([]string, error) {
	nodes, err := parseNodes(command.Node)
	if err != nil {
		return nil, err
	}
	if command.IfMissing {
		if _, err := os.Stat(filepath.Join(command.Dir, nodes[0].Name+".conf")); err == nil {
			return nil, nil
		}
	}
	s, err := offline(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer s.store.Close()
	g := &signer{server: s}
	if g.platform, err = handlers.OpenPlatform(ctx, s.store, s.keys.ca); err != nil {
		return nil, err
	}
	if g.local, err = s.ensureLocalIssuer(ctx); err != nil {
		return nil, err
	}
	facts, err := g.facts(ctx)
	if err != nil {
		return nil, err
	}
	return broker.Init(command.Dir, broker.InitOptions{
		Identity: g.platform.Bus, Facts: facts, Now: time.Now(), Nodes: nodes, StoreDir: command.StoreDir,
		CertFile: command.CertFile, KeyFile: command.KeyFile, CAFile: command.TrustCA, StoreKeyVariable: command.StoreKey,
	})
}

// parseNodes reads name=host:port[,route=host:port][,zone=name].
func parseNodes(texts []string) ([]broker.Node, error) {
	nodes := make([]broker.Node, len(texts))
	for i, text := range texts {
		for n, part := range strings.Split(text, ",") {
			key, value, ok := strings.Cut(part, "=")
			switch {
			case !ok:
				return nil, certctl.InvalidField("node", "%q is not name=host:port", certctl.Clip(part, 100))
			case n == 0:
				nodes[i].Name, nodes[i].Listen = key, value
			case key == "route":
				nodes[i].Route = value
			case key == "zone":
				nodes[i].Zone = value
			default:
				return nil, certctl.InvalidField("node", "there is no %q of a node: use route and zone", certctl.Clip(key, 40))
			}
		}
	}
	return nodes, nil
}
