package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var postgresqlKind = Descriptor{
	Kind: "postgresql", Title: "PostgreSQL", Hitless: true, Rollback: true, Probe: true, open: openPostgreSQL,
}

// postgresqlSettings are the settings of a target of kind postgresql. Its
// configuration names the files: ssl_cert_file and ssl_key_file.
type postgresqlSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// PIDFile is postmaster.pid in the data folder.
	PIDFile string `json:"pid_file,omitempty"`
	// Reload is an argument vector to run instead of a signal to that process.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe, postgres://host:port.
	Listen []string `json:"listen"`
}

// postgresql has no check of its own: a certificate that it cannot load leaves the
// one before in force, which the probe sees.
type postgresql struct {
	daemon
	owner ownership
	mode  layout
}

func openPostgreSQL(raw json.RawMessage) (driver, error) {
	s := postgresqlSettings{ownership: ownership{Owner: "postgres"}}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	p := &postgresql{owner: s.ownership, daemon: daemon{signal: syscall.SIGHUP, program: "postgres", daemonSettings: daemonSettings{
		Directory: s.Directory, PIDFile: s.PIDFile, Reload: s.Reload, Listen: s.Listen,
	}}}
	var bad certctl.FieldErrors
	absolute(&bad, "directory", s.Directory)
	p.validateReload(&bad)
	p.mode = layout{directory: s.Directory, uid: -1, gid: -1, keyMode: s.mode(&bad)}
	return p, bad.Err()
}

func (p *postgresql) layout() layout { return p.owner.on(p.mode) }

func (p *postgresql) allowed(policy Policy) error {
	if err := p.owner.allowed(); err != nil {
		return err
	}
	return p.allowedFiles(policy)
}
