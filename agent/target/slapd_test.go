//go:build daemons

package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startSlapd starts a real OpenLDAP with a certificate of its own. It is told of the
// place's files by the first installation. Both of its listeners are probed.
func startSlapd(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	portTLS, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "openldap")
	slapd := &local.Slapd{
		Dir: filepath.Join(dir, "slapd"), Listen: local.Loopback(port), ListenTLS: local.Loopback(portTLS),
		Certificate: filepath.Join(first, "fullchain.pem"), Key: filepath.Join(first, "privkey.pem"),
	}
	must(t, os.Mkdir(slapd.Dir, 0o700))
	must(t, slapd.Start(t.Context()))
	t.Cleanup(slapd.Kill)
	return &targettest.Daemon{
		Spec: spec(t, "slapd", map[string]any{
			"directory": directory, "control": slapd.Socket(), "listen": []string{"ldap://" + slapd.Listen, slapd.ListenTLS},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "ldap://" + slapd.Listen, Complaint: "cannot read what is in",
		Break: hide(t, directory), Repair: show(t, directory),
		Unname: func() { must(t, slapd.Configure(t.Context(), slapd.Certificate, slapd.Key)) },
	}
}

func TestSlapd(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startSlapd)
}

func TestSlapdSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"an address":         `{"directory": "/srv/tls", "listen": [], "control": "127.0.0.1:389"}`,
		"a password":         `{"directory": "/srv/tls", "listen": [], "password": "secret"}`,
		"a program by name":  `{"directory": "/srv/tls", "listen": [], "reload": ["systemctl"]}`,
		"a protocol unknown": `{"directory": "/srv/tls", "listen": ["ldaps://127.0.0.1:636"]}`,
	} {
		if err := target.Validate("slapd", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("slapd", []byte(`{"directory": "/srv/tls", "listen": ["ldap://127.0.0.1:389", "127.0.0.1:636"]}`)))
}
