package target

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/certctl/certctl"
)

var envoyKind = Descriptor{
	Kind: "envoy", Title: "Envoy, by files (SDS)", Hitless: true, Rollback: true, Probe: true, Experimental: true, open: openEnvoy,
}

// fileSDS is what Envoy reads, a response of its discovery services as JSON. Chain
// and key stand in it and not as names of files, so that they are always of one
// generation.
const fileSDS = "sds.json"

// envoySettings are the settings of a target of kind envoy. Its configuration reads
// <directory>/<place>/current/sds.json and watches <directory>/<place>, in which a
// switch is a move of "current".
type envoySettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Listen are the addresses to probe.
	Listen []string `json:"listen"`
}

type envoy struct{ *owned }

func openEnvoy(raw json.RawMessage) (driver, error) {
	var s envoySettings
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	e := &envoy{newOwned(ownedSettings{Directory: s.Directory, ownership: s.ownership, Listen: s.Listen}, daemon{}, &bad)}
	checkAddresses(&bad, "listen", s.Listen)
	return e, bad.Err()
}

// reload does nothing: Envoy has seen the switch.
func (*envoy) reload(context.Context) error { return nil }

func (*envoy) files(m material) ([]file, error) {
	fullchain, key, err := PEM(m.install)
	if err != nil {
		return nil, err
	}
	inline := func(content []byte) map[string]any { return map[string]any{"inline_string": string(content)} }
	content, err := json.MarshalIndent(map[string]any{"resources": []any{map[string]any{
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		"name":  filepath.Base(m.place.path),
		"tls_certificate": map[string]any{
			"certificate_chain": inline(fullchain), "private_key": inline(key),
		},
	}}}, "", "  ")
	return []file{{name: fileSDS, content: append(content, '\n'), secret: true}}, err
}
