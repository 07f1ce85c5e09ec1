package remote

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

const inCluster = `{"namespace": "shop"}`

func TestKubernetesSecretSettings(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]certctl.Code{
		inCluster: "",
		`{"namespace": "shop", "server": "https://[fd00::1]:6443", "ca_file": "/a", "token_file": "/b", "adopt": true, "ca": true, "listen": ["web:443"], "wait_seconds": 600}`: "",
		`{}`:                            certctl.Invalid,
		`{"namespace": "Shop"}`:         certctl.Invalid,
		`{"namespace": "a/../b"}`:       certctl.Invalid,
		`{"namespace": "shop", "x": 1}`: certctl.Invalid,
		`{"namespace": "shop", "server": "http://kubernetes"}`:            certctl.Invalid,
		`{"namespace": "shop", "server": "https://me:x@kubernetes"}`:      certctl.Invalid,
		`{"namespace": "shop", "server": "https://kubernetes?x"}`:         certctl.Invalid,
		`{"namespace": "shop", "token_file": "token"}`:                    certctl.Invalid,
		`{"namespace": "shop", "ca_file": ""}`:                            certctl.Invalid,
		`{"namespace": "shop", "listen": ["443"]}`:                        certctl.Invalid,
		`{"namespace": "shop", "listen": ["web:443"], "wait_seconds": 0}`: certctl.Invalid,
	} {
		if got := certctl.ErrorCode(Kinds().Validate("kubernetes-secret", json.RawMessage(settings))); got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
}

func TestKubernetesSecretPolicy(t *testing.T) {
	t.Parallel()
	for refused, want := range map[string]certctl.Code{
		"": "", "kubernetes.default.svc:443": certctl.Denied, kube.AccountDir + "/token": certctl.Denied, kube.AccountDir + "/ca.crt": certctl.Denied,
	} {
		_, err := Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "kubernetes-secret", Settings: json.RawMessage(inCluster)},
			target.Env{Policy: policy{refused}, Now: time.Now, StateDir: t.TempDir()})
		if certctl.ErrorCode(err) != want {
			t.Errorf("%q refused: %v", refused, err)
		}
	}
}

func TestSecretNames(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"shop": "shop", "shop.example.com": "shop.example.com", "a-1": "a-1",
		"Shop": "", "shop@x": "", "*.example.com": "", "shop.": "", "shop..x": "", "shop_x": "", "..": "", "a/b": "",
	} {
		if got, err := secretName(place, certctl.SlotDefault); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", place, got, err)
		}
	}
	if got, err := secretName("shop", "rsa"); got != "shop-rsa" || err != nil {
		t.Errorf("a slot: %q, %v", got, err)
	}
}
