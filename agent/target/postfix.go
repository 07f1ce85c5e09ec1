package target

import (
	"encoding/json"
	"path/filepath"

	"github.com/certctl/certctl"
)

var postfixKind = Descriptor{
	Kind: "postfix", Title: "Postfix", Check: true, Hitless: true, Rollback: true, Probe: true, open: openPostfix,
}

// openPostfix opens a target of kind postfix. Its main.cf names the files:
// smtpd_tls_chain_files = <directory>/<place>/current/privkey.pem, …/fullchain.pem.
// It is told to reload by its own program, which finds its master. What is wrong
// with a configuration it tells its log only: postmap, which looks something up
// with it, tells us.
func openPostfix(raw json.RawMessage) (driver, error) {
	s := daemonSettings{Binary: "/usr/sbin/postmap", Config: "/etc/postfix/main.cf"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	p := &daemon{daemonSettings: s}
	folder := filepath.Dir(s.Config)
	p.argv = []string{s.Binary, "-c", folder, "-q", "ok", "static:ok"}
	if len(s.Reload) == 0 {
		p.Reload = []string{filepath.Join(filepath.Dir(s.Binary), "postfix"), "-c", folder, "reload"}
	}
	var bad certctl.FieldErrors
	p.validate(&bad)
	return p, bad.Err()
}
