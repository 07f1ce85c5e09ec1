package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// pairOf is a running daemon whose configuration names both slots of the place shop;
// setting is a line of its server.
type pairOf func(t *testing.T, setting string) *targettest.Daemon

// nginxPair begins without a server, which wants files that are not there yet.
func nginxPair(t *testing.T, setting string) *targettest.Daemon {
	t.Helper()
	d := startNginx(t)
	site := fmt.Sprintf("server {\n    listen %s ssl;\n    server_name shop.example.com;\n    %s\n", d.Address, setting)
	for _, slot := range []string{"rsa", "ecdsa"} {
		current := filepath.Join(d.Directory, "shop~"+slot, "current")
		site += fmt.Sprintf("    ssl_certificate %s/fullchain.pem;\n    ssl_certificate_key %s/privkey.pem;\n", current, current)
	}
	nginx := &local.Nginx{Dir: filepath.Dir(d.Directory)}
	config := local.NginxConfig(nginx.Dir, filepath.Join(nginx.Dir, "site.conf"))
	must(t, os.WriteFile(filepath.Join(nginx.Dir, "site.conf"), []byte(site+"}\n"), 0o600))
	must(t, os.WriteFile(nginx.ConfigFile(), []byte(config), 0o600))
	binary, err := local.FindNginx()
	must(t, err)
	d.Spec = spec(t, "nginx", map[string]any{
		"directory": d.Directory, "config": nginx.ConfigFile(), "binary": binary, "pid_file": nginx.PIDFile(), "listen": []string{d.Address},
	})
	return d
}

func apachePair(t *testing.T, setting string) *targettest.Daemon {
	t.Helper()
	d := startApache(t)
	site := fmt.Sprintf("<VirtualHost %s>\n    ServerName shop.example.com\n    SSLEngine on\n    %s\n", d.Address, setting)
	for _, slot := range []string{"rsa", "ecdsa"} {
		current := filepath.Join(d.Directory, "shop~"+slot, "current")
		site += fmt.Sprintf("    SSLCertificateFile %s/fullchain.pem\n    SSLCertificateKeyFile %s/privkey.pem\n", current, current)
	}
	apache := &local.Apache{Dir: filepath.Dir(d.Directory)}
	config, err := os.ReadFile(apache.ConfigFile())
	must(t, err)
	must(t, os.WriteFile(apache.ConfigFile(), append(config, site+"</VirtualHost>\n"...), 0o600))
	binary, err := local.FindApache()
	must(t, err)
	d.Spec = spec(t, "apache", map[string]any{
		"directory": d.Directory, "config": apache.ConfigFile(), "binary": binary, "pid_file": apache.PIDFile(), "listen": []string{d.Address},
	})
	return d
}

// haproxyPair takes the links of both slots.
func haproxyPair(t *testing.T, setting string) *targettest.Daemon {
	t.Helper()
	d := startHAProxy(t)
	dir := filepath.Dir(d.Directory)
	haproxy := &local.HAProxy{Dir: dir}
	config, err := os.ReadFile(haproxy.ConfigFile())
	must(t, err)
	links := filepath.Join(dir, "links")
	must(t, os.WriteFile(haproxy.ConfigFile(), []byte(strings.Replace(string(config), "ssl crt "+links, "ssl crt "+links+" "+setting, 1)), 0o600))
	return d
}

var slotPairs = map[string]struct {
	start pairOf
	only  string // TLS 1.3
}{
	"nginx":   {nginxPair, "ssl_protocols TLSv1.3;"},
	"apache":  {apachePair, "SSLProtocol TLSv1.3"},
	"haproxy": {haproxyPair, "ssl-min-ver TLSv1.3"},
}

// Of a pair each leaf is seen served, and renewed without the other.
func TestBothSlotsOfAPairAreVerified(t *testing.T) {
	t.Parallel()
	for kind, pair := range slotPairs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := pair.start(t, "")
			next, web := targettest.Pairs(t, "shop", "shop.example.com"), opened(t, d)
			apply(t, web, certctl.OutcomeVerified, next()...)
			second := next()
			for _, install := range []target.Install{second[0], second[1], second[0]} {
				r := apply(t, web, certctl.OutcomeVerified, install)
				if r.VerifiedBy != "probe" || len(r.Served) != 1 || r.Served[0].Fingerprint != install.Command.Fingerprint {
					t.Errorf("receipt %+v", r)
				}
			}
			seesBothServed(t, web, second, certctl.StepOK, "serves the newest certificate")
		})
	}
}

// seesBothServed holds the listener steps of a test against how they must end.
func seesBothServed(t *testing.T, web *target.Target, pair []target.Install, state certctl.StepState, message string) {
	t.Helper()
	var command certctl.TestCommand
	for _, install := range pair {
		c := install.Command
		command.Places = append(command.Places, certctl.TestPlace{
			Certificate: "shop", Place: c.Place, Slot: c.Slot, Names: c.Names, Fingerprint: c.Fingerprint,
		})
	}
	seen := 0
	for _, step := range web.Test(t.Context(), command) {
		if step.Step != "listener" {
			continue
		}
		if step.State == state && strings.Contains(step.Message, message) {
			seen++
		} else if state == certctl.StepOK || step.State == certctl.StepFails {
			t.Errorf("step %+v", step)
		}
	}
	if want := len(pair); state == certctl.StepOK && seen != want || seen == 0 {
		t.Errorf("%d listener steps are %s, %q", seen, state, message)
	}
}

// A listener of TLS 1.3 alone chooses which of its leaves it shows: that one of them
// is not seen is said, and is no reason to take it back.
func TestASlotThatCannotBeAskedForIsInstalled(t *testing.T) {
	t.Parallel()
	for kind, pair := range slotPairs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := pair.start(t, pair.only)
			next, web := targettest.Pairs(t, "shop", "shop.example.com"), opened(t, d)
			both := next()
			receipts := web.Apply(t.Context(), both)
			unseen, which := 0, 0
			for i, r := range receipts {
				switch {
				case r.Fingerprint != both[i].Command.Fingerprint:
					t.Errorf("receipt %+v", r)
				case r.Outcome == certctl.OutcomeVerified && r.VerifiedBy == "probe" && len(r.Served) == 1:
				case r.Outcome == certctl.OutcomeInstalled && r.VerifiedBy == "installed" && len(r.Served) == 0 && strings.Contains(r.Message, "TLS 1.3 only"):
					unseen, which = unseen+1, i
				default:
					t.Errorf("receipt %+v", r)
				}
			}
			if unseen != 1 {
				t.Errorf("%d of two were not seen", unseen)
			}
			seesBothServed(t, web, both, certctl.StepSkipped, "TLS 1.3 only")
			apply(t, web, certctl.OutcomeInstalled, both[which]) // once more, nothing is touched
		})
	}
}

// A slot whose file nobody names is not taken for the other.
func TestASlotThatIsNotServedIsTakenBack(t *testing.T) {
	t.Parallel()
	for at, slot := range []string{"rsa", "ecdsa"} {
		t.Run(slot, func(t *testing.T) {
			t.Parallel()
			d := nginxPair(t, "")
			next, web := targettest.Pairs(t, "shop", "shop.example.com"), opened(t, d)
			apply(t, web, certctl.OutcomeVerified, next()...)
			elsewhere := next()[at]
			elsewhere.Command.Place = "blog" // of the same name
			r := apply(t, web, certctl.OutcomeFailed, elsewhere)
			if r.Code != "not_served" || !strings.Contains(r.Message, "still serves") {
				t.Errorf("receipt %+v", r)
			}
		})
	}
}
