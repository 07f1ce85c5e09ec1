package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var natsKind = Descriptor{
	Kind: "nats", Title: "NATS", Check: true, Hitless: true, Rollback: true, Probe: true, open: openNATS,
}

// natsSettings are the settings of a target of kind nats. The tls block of its
// configuration names the files: cert_file and key_file.
type natsSettings struct {
	daemonSettings
	ownership
}

// nats reads its configuration again with SIGHUP, and its files with it. What it
// cannot load leaves everything as it was; connections stay.
type nats struct{ *owned }

func openNATS(raw json.RawMessage) (driver, error) {
	s := natsSettings{
		ownership:      ownership{Owner: "nats"},
		daemonSettings: daemonSettings{Binary: "/usr/sbin/nats-server", Config: "/etc/nats-server.conf"},
	}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	absolute(&bad, "config", s.Config)
	absolute(&bad, "binary", s.Binary)
	n := newOwned(ownedSettings{Directory: s.Directory, ownership: s.ownership, PIDFile: s.PIDFile, Reload: s.Reload, Listen: s.Listen},
		daemon{argv: []string{s.Binary, "-t", "-c", s.Config}, signal: syscall.SIGHUP, program: "nats-server"}, &bad)
	n.Config, n.Binary = s.Config, s.Binary
	n.validateReload(&bad)
	return &nats{n}, bad.Err()
}

func (n *nats) allowed(p Policy) error {
	if err := p.AllowConfig(n.Config); err != nil {
		return err
	}
	return n.owned.allowed(p)
}
