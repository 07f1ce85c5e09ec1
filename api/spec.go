// Package api holds the description of the REST API.
package api

import _ "embed"

// Spec is openapi.yaml, byte for byte.
//
//go:embed openapi.yaml
var Spec []byte
