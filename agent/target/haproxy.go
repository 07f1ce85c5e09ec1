package target

import (
	"context"
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var haproxyKind = Descriptor{
	Kind: "haproxy", Title: "HAProxy", Check: true, Hitless: true, Rollback: true, Probe: true, open: openHAProxy,
}

// haproxySettings are the settings of a target of kind haproxy, in master-worker
// mode. Its configuration names <directory>/<place>/current/bundle.pem, or the
// folder of links, which holds a link to each of them: bind … ssl crt <links>.
type haproxySettings struct {
	daemonSettings
	// Links is that folder; it is not below the directory.
	Links string `json:"links,omitempty"`
	// Control is the path of HAProxy's stats socket, of level admin: HAProxy is told
	// of certificates there, and reloads only for places that are new or gone.
	Control string `json:"control,omitempty"`
}

// haproxy is a daemon that reads key and chain from one file, or is sent them.
type haproxy struct {
	daemon
	links string
	cli   haproxyCLI
	// told is what HAProxy was last sent, by name; the target's lock guards it.
	told map[string]certctl.Digest
}

func openHAProxy(raw json.RawMessage) (driver, error) {
	s := haproxySettings{daemonSettings: daemonSettings{Binary: "/usr/sbin/haproxy", PIDFile: "/run/haproxy.pid"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	// SIGUSR2 has the master start new workers; the old ones finish their connections.
	h := &haproxy{
		daemon: daemon{daemonSettings: s.daemonSettings, signal: syscall.SIGUSR2},
		links:  s.Links, cli: haproxyCLI{s.Control}, told: map[string]certctl.Digest{},
	}
	var bad certctl.FieldErrors
	h.validate(&bad)
	h.argv = []string{s.Binary, "-c", "-f", s.Config}
	if s.Links != "" {
		absolute(&bad, "links", s.Links)
		if below(s.Links, s.Directory) {
			bad.Add("/settings/links", "must not be below the directory, whose folders are places")
		}
	}
	if s.Control != "" {
		absolute(&bad, "control", s.Control)
	}
	return h, bad.Err()
}

func (h *haproxy) layout() layout {
	out := h.daemon.layout()
	out.links = h.links
	return out
}

func (h *haproxy) files(m material) ([]file, error) {
	bundle, err := bundleFile(m)
	return []file{bundle}, err
}

func (h *haproxy) allowed(p Policy) error {
	if h.links != "" {
		if err := p.AllowDirectory(h.links); err != nil {
			return err
		}
	}
	if h.cli.socket != "" {
		if err := p.AllowConfig(h.cli.socket); err != nil {
			return err
		}
	}
	return h.daemon.allowed(p)
}

func (h *haproxy) reload(ctx context.Context) error {
	if h.cli.socket != "" {
		if told, err := h.tell(ctx); told || err != nil {
			return err
		}
	}
	return h.daemon.reload(ctx)
}
