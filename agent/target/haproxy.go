package target

import (
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
}

// haproxy is a daemon that reads key and chain from one file.
type haproxy struct {
	daemon
	links string
}

func openHAProxy(raw json.RawMessage) (driver, error) {
	s := haproxySettings{daemonSettings: daemonSettings{Binary: "/usr/sbin/haproxy", PIDFile: "/run/haproxy.pid"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	// SIGUSR2 has the master start new workers; the old ones finish their connections.
	h := &haproxy{daemon: daemon{daemonSettings: s.daemonSettings, signal: syscall.SIGUSR2}, links: s.Links}
	var bad certctl.FieldErrors
	h.validate(&bad)
	h.argv = []string{s.Binary, "-c", "-f", s.Config}
	if s.Links != "" {
		absolute(&bad, "links", s.Links)
		if below(s.Links, s.Directory) {
			bad.Add("/settings/links", "must not be below the directory, whose folders are places")
		}
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
	return h.daemon.allowed(p)
}
