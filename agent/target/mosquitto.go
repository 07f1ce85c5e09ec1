package target

import (
	"encoding/json"
	"syscall"

	"github.com/certctl/certctl"
)

var mosquittoKind = Descriptor{
	Kind: "mosquitto", Title: "Mosquitto", Hitless: true, Rollback: true, Probe: true, open: openMosquitto,
}

// openMosquitto opens a target of kind mosquitto. A listener of its configuration
// names the files: certfile and keyfile. With SIGHUP it reads them again, and keeps
// those before when it cannot; it has no check of its own.
func openMosquitto(raw json.RawMessage) (driver, error) {
	s := ownedSettings{ownership: ownership{Owner: "mosquitto"}, PIDFile: "/run/mosquitto/mosquitto.pid"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	m := newOwned(s, daemon{signal: syscall.SIGHUP, program: "mosquitto"}, &bad)
	m.validateReload(&bad)
	return m, bad.Err()
}
