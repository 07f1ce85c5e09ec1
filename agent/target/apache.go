package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var apacheKind = Descriptor{
	Kind: "apache", Title: "Apache httpd", Check: true, Hitless: true, Rollback: true, Probe: true, open: openApache,
}

// apacheSettings are the settings of a target of kind apache. Its configuration
// names files below the directory, or has IncludeOptional
// <directory>/*/current/*.conf.
//
// Debian's configuration takes its paths from the environment: there, binary is
// /usr/sbin/apache2ctl for the check, and reload a command.
type apacheSettings struct {
	daemonSettings
	// VirtualHost is a template that is rendered into each generation as
	// server.conf: {{.Names}}, {{.Fullchain}}, {{.Key}}, {{.Chain}}, {{.Place}}.
	VirtualHost string `json:"virtual_host,omitempty"`
}

func openApache(raw json.RawMessage) (driver, error) {
	s := apacheSettings{daemonSettings: daemonSettings{Binary: "/usr/sbin/apache2", PIDFile: "/run/apache2/apache2.pid"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	// SIGUSR1 is a graceful restart: requests under way are finished.
	a := &daemon{daemonSettings: s.daemonSettings, signal: syscall.SIGUSR1}
	var bad certctl.FieldErrors
	a.validate(&bad)
	a.argv = []string{s.Binary, "-f", s.Config, "-t"}
	a.block = parseBlock(&bad, "virtual_host", s.VirtualHost)
	return a, bad.Err()
}
