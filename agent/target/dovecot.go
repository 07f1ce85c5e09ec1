package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var dovecotKind = Descriptor{
	Kind: "dovecot", Title: "Dovecot", Check: true, Hitless: true, Rollback: true, Probe: true, open: openDovecot,
}

// openDovecot opens a target of kind dovecot. Its configuration names the files:
// ssl_cert = <directory/place/current/fullchain.pem, with the < that has it read.
func openDovecot(raw json.RawMessage) (driver, error) {
	s := daemonSettings{Binary: "/usr/bin/doveconf", Config: "/etc/dovecot/dovecot.conf", PIDFile: "/run/dovecot/master.pid"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	d := &daemon{daemonSettings: s, signal: syscall.SIGHUP, program: "dovecot"}
	d.argv = []string{s.Binary, "-c", s.Config, "-h", "ssl_cert", "ssl_key"}
	var bad certctl.FieldErrors
	d.validate(&bad)
	return d, bad.Err()
}
