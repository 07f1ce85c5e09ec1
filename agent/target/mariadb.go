package target

import (
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
)

var mariadbKind = Descriptor{
	Kind: "mariadb", Title: "MariaDB", Hitless: true, Rollback: true, Probe: true, open: openMariaDB,
}

// mariadbSettings are the settings of a target of kind mariadb. Its configuration
// names the files: ssl_cert and ssl_key.
type mariadbSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Binary is the client program.
	Binary string `json:"binary,omitempty"`
	// DefaultsFile is a file of this node that says how the client logs in, with the
	// password if there is one; empty: as the agent's user does, at the usual socket.
	DefaultsFile string `json:"defaults_file,omitempty"`
	// Reload is an argument vector to run instead of FLUSH SSL.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe, mysql://host:port.
	Listen []string `json:"listen"`
}

// mariadb is told by FLUSH SSL, which it refuses when it cannot load the files:
// those before stay in force.
type mariadb struct {
	*owned
	defaultsFile string
}

// defaultsOption must be the client's first.
const defaultsOption = "--defaults-file="

func openMariaDB(raw json.RawMessage) (driver, error) {
	s := mariadbSettings{ownership: ownership{Owner: "mysql"}, Binary: "/usr/bin/mariadb"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	reload := s.Reload
	if len(reload) == 0 {
		absolute(&bad, "binary", s.Binary)
		reload = []string{s.Binary, "-e", "FLUSH SSL"}
		if s.DefaultsFile != "" {
			absolute(&bad, "defaults_file", s.DefaultsFile)
			reload = slices.Insert(reload, 1, defaultsOption+s.DefaultsFile)
		}
	} else if s.DefaultsFile != "" {
		bad.Add("/settings/defaults_file", "is not read when there is a command to reload")
	}
	m := &mariadb{defaultsFile: s.DefaultsFile, owned: newOwned(ownedSettings{
		Directory: s.Directory, ownership: s.ownership, Reload: reload, Listen: s.Listen,
	}, daemon{}, &bad)}
	m.validateReload(&bad)
	return m, bad.Err()
}

// allowed holds the command against the policy without the file, which it judges by
// itself: a rule with "*" in its place would allow any option.
func (m *mariadb) allowed(p Policy) error {
	if m.defaultsFile == "" {
		return m.owned.allowed(p)
	}
	if err := p.AllowConfig(m.defaultsFile); err != nil {
		return err
	}
	bare := *m.owned
	bare.Reload = slices.Delete(slices.Clone(bare.Reload), 1, 2)
	return bare.allowed(p)
}
