package target

import (
	"encoding/json"

	"github.com/certctl/certctl"
)

var caddyKind = Descriptor{
	Kind: "caddy", Title: "Caddy", Check: true, Rollback: true, Probe: true, open: openCaddy,
}

// caddySettings are the settings of a target of kind caddy. The file that it runs
// from names the files of the place: tls …/current/fullchain.pem …/current/privkey.pem.
type caddySettings struct {
	daemonSettings
	ownership
}

// caddy has its own program check the file and send it to where it is administered.
// It opens its listeners anew for that and closes the old ones with what has come to
// them and was not taken yet, so that the kind is not hitless.
type caddy struct{ *owned }

func openCaddy(raw json.RawMessage) (driver, error) {
	s := caddySettings{
		ownership:      ownership{Owner: "caddy"},
		daemonSettings: daemonSettings{Binary: "/usr/bin/caddy", Config: "/etc/caddy/Caddyfile"},
	}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	absolute(&bad, "config", s.Config)
	absolute(&bad, "binary", s.Binary)
	if len(s.Reload) == 0 {
		// Forced, since the file is the same: it is what the file names that is not.
		s.Reload = []string{s.Binary, "reload", "--force", "--config", s.Config}
	}
	c := newOwned(ownedSettings{Directory: s.Directory, ownership: s.ownership, Reload: s.Reload, Listen: s.Listen},
		daemon{argv: []string{s.Binary, "validate", "--config", s.Config}}, &bad)
	c.Config, c.Binary = s.Config, s.Binary
	c.validateReload(&bad)
	return &caddy{c}, bad.Err()
}

func (c *caddy) allowed(p Policy) error {
	if err := p.AllowConfig(c.Config); err != nil {
		return err
	}
	return c.owned.allowed(p)
}
