package remote_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/targettest"
)

// The proxy's machine has an account, whose tokens its own host hands out.
// It sets a variable of the environment, so that nothing may run beside it.
func TestGCPAccountOfTheMachine(t *testing.T) {
	var asked atomic.Int64
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" || r.Header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		_, _ = w.Write([]byte(`{"access_token": "of-the-machine", "expires_in": 3599, "token_type": "Bearer"}`)) // a client that is gone reads nothing
	}))
	t.Cleanup(metadata.Close)
	s := startGCP(t)
	s.machine = "of-the-machine"
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	settings, err := json.Marshal(object{"project": "shop-1", "endpoint": s.URL, "ca_file": dir + "/roots.pem"})
	must(t, err)
	install := targettest.Installs(t, gcpPlace, "shop.example.com")()
	apply := func(hosts ...string) certctl.Receipt {
		opened, err := remote.Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "gcp-certificate-manager", Settings: settings},
			target.Env{Policy: onlyHosts{hosts: strings.Join(hosts, " ")}, Now: time.Now, StateDir: dir + "/targets"})
		must(t, err)
		return opened.Apply(t.Context(), []target.Install{install})[0]
	}
	api, own := strings.TrimPrefix(s.URL, "https://"), strings.TrimPrefix(metadata.URL, "http://")
	if r := apply(api); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "not metadata.google.internal:80") {
		t.Errorf("a host that is not allowed was asked: %+v", r)
	}
	t.Setenv("GCE_METADATA_HOST", own)
	if r := apply(api); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "not "+own) || asked.Load() != 0 || len(s.calls) != 0 {
		t.Errorf("asked %d times: %+v", asked.Load(), r)
	}
	if r := apply(api, own); r.Outcome != certctl.OutcomeInstalled || asked.Load() != 1 {
		t.Errorf("asked %d times: %+v", asked.Load(), r)
	}
}
