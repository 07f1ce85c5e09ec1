package remote

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

func TestGCPCertificateSettings(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]certctl.Code{
		`{"project": "shop-1"}`: "",
		`{"project": "example.com:shop", "location": "europe-west3", "scope": "ALL_REGIONS", "credentials_file": "/a", "adopt": ["shop", "shop~ecdsa"], "listen": ["shop:443"]}`: "",
		`{}`:                    certctl.Invalid,
		`{"project": "a/../b"}`: certctl.Invalid,
		`{"project": "shop-1", "location": "a/b"}`:              certctl.Invalid,
		`{"project": "shop-1", "scope": "CLIENT_AUTH"}`:         certctl.Invalid,
		`{"project": "shop-1", "endpoint": "http://x"}`:         certctl.Invalid,
		`{"project": "shop-1", "endpoint": "https://x/y"}`:      certctl.Invalid,
		`{"project": "shop-1", "credentials_file": "key.json"}`: certctl.Invalid,
		`{"project": "shop-1", "ca_file": "../roots.pem"}`:      certctl.Invalid,
		`{"project": "shop-1", "adopt": ["Shop"]}`:              certctl.Invalid,
		`{"project": "shop-1", "adopt": ["shop~x"]}`:            certctl.Invalid,
		`{"project": "shop-1", "wait_seconds": 1000}`:           certctl.Invalid,
		`{"project": "shop-1", "token": "x"}`:                   certctl.Invalid,
	} {
		if got := certctl.ErrorCode(Kinds().Validate("gcp-certificate-manager", json.RawMessage(settings))); got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
}

func TestGCPCertificatePolicy(t *testing.T) {
	t.Parallel()
	settings := json.RawMessage(`{"project": "shop-1", "credentials_file": "/etc/certctl/gcp.json"}`)
	for refused, want := range map[string]certctl.Code{
		"": "", "certificatemanager.googleapis.com:443": certctl.Denied, "/etc/certctl/gcp.json": certctl.Denied,
	} {
		_, err := Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "gcp-certificate-manager", Settings: settings},
			target.Env{Policy: policy{refused}, Now: time.Now, StateDir: t.TempDir()})
		if certctl.ErrorCode(err) != want {
			t.Errorf("%q refused: %v", refused, err)
		}
	}
}
