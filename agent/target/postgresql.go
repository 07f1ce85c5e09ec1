package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var postgresqlKind = Descriptor{
	Kind: "postgresql", Title: "PostgreSQL", Hitless: true, Rollback: true, Probe: true, open: openPostgreSQL,
}

// openPostgreSQL opens a target of kind postgresql. Its configuration names the
// files: ssl_cert_file and ssl_key_file; its pid file is postmaster.pid in the data
// folder. It has no check of its own: a certificate that it cannot load leaves the
// one before in force, which the probe sees.
func openPostgreSQL(raw json.RawMessage) (driver, error) {
	s := ownedSettings{ownership: ownership{Owner: "postgres"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	p := newOwned(s, daemon{signal: syscall.SIGHUP, program: "postgres"}, &bad)
	p.validateReload(&bad)
	return p, bad.Err()
}
