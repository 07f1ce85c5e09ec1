package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var nginxKind = Descriptor{
	Kind: "nginx", Title: "nginx", Check: true, Hitless: true, Rollback: true, Probe: true, open: openNginx,
}

// nginxSettings are the settings of a target of kind nginx. Its configuration
// names files below the directory, or includes <directory>/*/current/*.conf.
type nginxSettings struct {
	daemonSettings
	// Prefix is nginx's -p, if it is started with one.
	Prefix string `json:"prefix,omitempty"`
	// ServerBlock is a template that is rendered into each generation as
	// server.conf: {{.Names}}, {{.Fullchain}}, {{.Key}}, {{.Chain}}, {{.Place}}.
	ServerBlock string `json:"server_block,omitempty"`
}

func openNginx(raw json.RawMessage) (driver, error) {
	s := nginxSettings{daemonSettings: daemonSettings{Binary: "/usr/sbin/nginx", PIDFile: "/run/nginx.pid"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	n := &daemon{daemonSettings: s.daemonSettings, signal: syscall.SIGHUP}
	var bad certctl.FieldErrors
	n.validate(&bad)
	n.argv = []string{s.Binary, "-t", "-q", "-e", "stderr", "-c", s.Config}
	if s.Prefix != "" {
		absolute(&bad, "prefix", s.Prefix)
		n.argv = append(n.argv, "-p", s.Prefix)
	}
	n.block = parseBlock(&bad, "server_block", s.ServerBlock)
	return n, bad.Err()
}
