package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var stunnelKind = Descriptor{
	Kind: "stunnel", Title: "stunnel", Rollback: true, Probe: true, open: openStunnel,
}

// openStunnel opens a target of kind stunnel. The services of its configuration name
// the files: cert and key. With SIGHUP it reads everything again, and keeps what it
// has when it cannot; it closes its listeners for a moment, so that the kind is not
// hitless. It has no check of its own.
func openStunnel(raw json.RawMessage) (driver, error) {
	s := ownedSettings{PIDFile: "/var/run/stunnel4/stunnel.pid"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	t := newOwned(s, daemon{signal: syscall.SIGHUP, program: "stunnel"}, &bad)
	t.validateReload(&bad)
	return t, bad.Err()
}
