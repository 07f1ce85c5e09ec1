package remote_test

import (
	"encoding/json"
	"fmt"
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

// onlyHosts allows some hosts, and all else.
type onlyHosts struct {
	anything
	hosts string
}

func (p onlyHosts) AllowHost(address string) error {
	if strings.Contains(p.hosts, address) {
		return nil
	}
	return certctl.Errorf(certctl.Denied, "not %s", address)
}

// The proxy's container has a role, as ECS and EKS tell containers theirs.
// It sets variables of the environment, so that nothing may run beside it.
func TestAWSRoleOfTheEnvironment(t *testing.T) {
	var asked atomic.Int64
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/role" || r.Header.Get("Authorization") != "of the pod" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"AccessKeyId": %q, "SecretAccessKey": %q, "Token": "", "Expiration": %q}`, // a client that is gone reads nothing
			acmKeyID, acmSecret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(role.Close)
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", dir+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", dir+"/none")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL+"/role")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of the pod")

	s := startACM(t)
	roots := dir + "/roots.pem"
	must(t, os.WriteFile(roots, s.roots(), 0o600))
	settings, err := json.Marshal(object{"region": acmRegion, "endpoint": s.URL, "ca_file": roots})
	must(t, err)
	install := targettest.Installs(t, "shop", "shop.example.com")()
	apply := func(hosts ...string) certctl.Receipt {
		opened, err := remote.Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "aws-acm", Settings: settings},
			target.Env{Policy: onlyHosts{hosts: strings.Join(hosts, " ")}, Now: time.Now, StateDir: dir + "/targets"})
		must(t, err)
		return opened.Apply(t.Context(), []target.Install{install})[0]
	}
	acm, own := strings.TrimPrefix(s.URL, "https://"), strings.TrimPrefix(role.URL, "http://")
	if r := apply(acm); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "not "+own) || asked.Load() != 0 || len(s.calls) != 0 {
		t.Errorf("the role was asked of a host that is not allowed: %d times, %+v", asked.Load(), r)
	}
	if r := apply(acm, own); r.Outcome != certctl.OutcomeInstalled || asked.Load() != 1 {
		t.Errorf("asked %d times: %+v", asked.Load(), r)
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	if r := apply(acm, own); r.VerifiedBy != "" || !strings.Contains(r.Message, "not 169.254.169.254:80") {
		t.Errorf("the machine's role was asked for: %+v", r)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if r := apply(acm, own); r.VerifiedBy != "" || !strings.Contains(r.Remedy, "credentials_file") {
		t.Errorf("nobody has credentials: %+v", r)
	}
}

// Keys of a file that somebody replaces are not sent for ever.
// It sets variables of the environment, so that nothing may run beside it.
func TestAWSKeysOfTheEnvironmentAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", dir+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", dir+"/credentials")
	write := func(id, secret string) {
		must(t, os.WriteFile(dir+"/credentials", []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = "+secret+"\n"), 0o600))
	}
	write("AKIAREPLACED", "replaced")
	s := startACM(t)
	must(t, os.WriteFile(dir+"/roots.pem", s.roots(), 0o600))
	settings, err := json.Marshal(object{"region": acmRegion, "endpoint": s.URL, "ca_file": dir + "/roots.pem"})
	must(t, err)
	past := func() time.Time { return time.Now().Add(-10 * time.Minute) } // what it has read is old at once
	opened, err := remote.Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "aws-acm", Settings: settings},
		target.Env{Policy: anything{}, Now: past, StateDir: dir + "/targets"})
	must(t, err)
	install := targettest.Installs(t, "shop", "shop.example.com")()
	if r := opened.Apply(t.Context(), []target.Install{install})[0]; r.VerifiedBy != "" || !strings.Contains(r.Remedy, "credentials") {
		t.Errorf("with keys that are none: %+v", r)
	}
	write(acmKeyID, acmSecret)
	if r := opened.Apply(t.Context(), []target.Install{install})[0]; r.VerifiedBy != "loaded" {
		t.Errorf("with the new keys: %+v", r)
	}
}
