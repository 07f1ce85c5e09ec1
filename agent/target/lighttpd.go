package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var lighttpdKind = Descriptor{
	Kind: "lighttpd", Title: "lighttpd", Check: true, Hitless: true, Rollback: true, Probe: true, open: openLighttpd,
}

// openLighttpd opens a target of kind lighttpd. Its configuration names the files:
// ssl.pemfile = ".../fullchain.pem", ssl.privkey = ".../privkey.pem". SIGUSR1 has it
// finish what it does and begin anew with its listeners open.
func openLighttpd(raw json.RawMessage) (driver, error) {
	s := daemonSettings{Binary: "/usr/sbin/lighttpd", Config: "/etc/lighttpd/lighttpd.conf", PIDFile: "/run/lighttpd.pid"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	d := &daemon{daemonSettings: s, signal: syscall.SIGUSR1}
	d.argv = []string{s.Binary, "-tt", "-f", s.Config}
	var bad certctl.FieldErrors
	d.validate(&bad)
	return d, bad.Err()
}
