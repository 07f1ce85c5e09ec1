package discover_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/discover"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// TestMain lets the tests' program be the one that checks what is staged.
func TestMain(m *testing.M) {
	target.StagedExec()
	os.Exit(m.Run())
}

// anything is the policy of a node whose owner allows all.
type anything struct{}

func (anything) AllowDirectory(string) error { return nil }
func (anything) AllowConfig(string) error    { return nil }
func (anything) AllowCommand([]string) error { return nil }

func env(t *testing.T) target.Env {
	t.Helper()
	return target.Env{Policy: anything{}, Now: time.Now, StateDir: t.TempDir()}
}

func settingsOf(t *testing.T, p discover.Target) json.RawMessage {
	t.Helper()
	encoded, err := json.Marshal(p.Settings)
	must(t, err)
	return encoded
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
}

// Virtual hosts of Apache, in included files, with pairs, chain files and variables.
func TestApacheIsRead(t *testing.T) {
	t.Parallel()
	binary, err := local.FindApache()
	must(t, err)
	dir, at := t.TempDir(), addresses(t, 1)[0]
	shop := live(t, dir, "shop.example.com", "shop.example.com")
	must(t, os.MkdirAll(filepath.Join(dir, "pair"), 0o755))
	targettest.WritePair(t, filepath.Join(dir, "pair", "ec.pem"), filepath.Join(dir, "pair", "ec.key"), "pair.example.com")
	targettest.WriteRSAPair(t, filepath.Join(dir, "pair", "rsa.pem"), filepath.Join(dir, "pair", "rsa.key"), "pair.example.com")
	expand := strings.NewReplacer("ADDRESS", at, "SHOP", shop, "DIR", dir)
	write(t, filepath.Join(dir, "sites", "shop.conf"), expand.Replace(`<VirtualHost ADDRESS>
    ServerName shop.example.com
    SSLEngine on
    SSLCertificateFile "SHOP/fullchain.pem"
    SSLCertificateKeyFile "SHOP/privkey.pem"
    SSLCertificateChainFile SHOP/fullchain.pem
</VirtualHost>
`))
	write(t, filepath.Join(dir, "sites", "pair.conf"), expand.Replace(`<IfModule ssl_module>
<VirtualHost ADDRESS>
    ServerName pair.example.com
    SSLEngine on
    SSLCertificateFile DIR/pair/rsa.pem
    SSLCertificateKeyFile DIR/pair/rsa.key
    SSLCertificateFile DIR/pair/ec.pem
    SSLCertificateKeyFile DIR/pair/ec.key
</VirtualHost>
</IfModule>
`))
	write(t, filepath.Join(dir, "sites", "variable.conf"), expand.Replace(`Define certs DIR/pair
<VirtualHost ADDRESS>
    ServerName v.example.com
    SSLEngine on
    SSLCertificateFile ${certs}/rsa.pem
    SSLCertificateKeyFile ${certs}/rsa.key
</VirtualHost>
`))
	apache := &local.Apache{Dir: dir, Listen: at, Include: filepath.Join(dir, "sites", "*.conf")}
	must(t, apache.Start(t.Context()))
	t.Cleanup(apache.Kill)
	p, err := discover.Inspect(t.Context(), "apache", "web1", discover.Options{
		Config: apache.ConfigFile(), Binary: binary, PIDFile: apache.PIDFile(), Directory: filepath.Join(dir, "tls"),
	})
	must(t, err)
	if len(p.Targets) != 1 {
		t.Fatalf("targets %+v, problems %+v", p.Targets, p.Problems)
	}
	var got []string
	for _, place := range p.Targets[0].Places {
		got = append(got, fmt.Sprint(place.Place, " ", place.Slot))
	}
	if want := []string{"pair.example.com ecdsa", "pair.example.com rsa", "shop.example.com default"}; !slices.Equal(got, want) {
		t.Errorf("places %v, want %v", got, want)
	}
	if !slices.ContainsFunc(p.Problems, func(x discover.Problem) bool { return strings.Contains(x.Message, "variable") }) {
		t.Errorf("problems %+v", p.Problems)
	}
	seed(t, p)
	apply(t, p.Changes)
	run(t, binary, "-f", apache.ConfigFile(), "-t")
}

// What stands in an included file belongs to the virtual host that includes it, and
// neither to the server nor to the virtual hosts after it.
func TestApacheIncludesWithinVirtualHosts(t *testing.T) {
	t.Parallel()
	binary, err := local.FindApache()
	must(t, err)
	dir, at := t.TempDir(), addresses(t, 2)
	shop, other := live(t, dir, "shop.example.com", "shop.example.com"), live(t, dir, "other.example.com", "other.example.com")
	expand := strings.NewReplacer("TLS", at[0], "PLAIN", at[1], "SHOP", shop, "OTHER", other, "DIR", dir)
	write(t, filepath.Join(dir, "snippets", "on.conf"), "SSLEngine on\n")
	write(t, filepath.Join(dir, "snippets", "shop.conf"), expand.Replace("Include DIR/snippets/on.conf\nSSLCertificateFile SHOP/fullchain.pem\nSSLCertificateKeyFile SHOP/privkey.pem\n"))
	write(t, filepath.Join(dir, "sites", "all.conf"), expand.Replace(`<VirtualHost TLS>
    ServerName shop.example.com
    IncludeOptional DIR/snippets/sh*.conf
</VirtualHost>
Listen PLAIN
<VirtualHost PLAIN>
    ServerName shop.example.com
</VirtualHost>
<VirtualHost TLS>
    ServerName other.example.com
    Include DIR/snippets/on.conf
    SSLCertificateFile OTHER/fullchain.pem
    SSLCertificateKeyFile OTHER/privkey.pem
</VirtualHost>
`))
	apache := &local.Apache{Dir: dir, Listen: at[0], Include: filepath.Join(dir, "sites", "*.conf")}
	must(t, apache.Start(t.Context()))
	t.Cleanup(apache.Kill)
	p, err := discover.Inspect(t.Context(), "apache", "web1", discover.Options{
		Config: apache.ConfigFile(), Binary: binary, PIDFile: apache.PIDFile(), Directory: filepath.Join(dir, "tls"),
	})
	must(t, err)
	var got []string
	for _, target := range p.Targets {
		for _, place := range target.Places {
			got = append(got, fmt.Sprint(target.Settings["listen"], " ", place.Place))
		}
	}
	if want := []string{"[" + at[0] + "] other.example.com", "[" + at[0] + "] shop.example.com"}; !slices.Equal(got, want) || len(p.Problems) > 0 {
		t.Errorf("places %v, want %v, problems %+v", got, want, p.Problems)
	}
	seed(t, p)
	apply(t, p.Changes)
	run(t, binary, "-f", apache.ConfigFile(), "-t")
}

// Where the program is a script, as on Debian, a command is proposed that reloads,
// and with it an installation is served.
func TestApacheOfAScriptIsReloadedByACommand(t *testing.T) {
	t.Parallel()
	binary, err := local.FindApache()
	must(t, err)
	dir, at := t.TempDir(), addresses(t, 1)[0]
	shop := live(t, dir, "shop.example.com", "shop.example.com")
	write(t, filepath.Join(dir, "sites", "shop.conf"), fmt.Sprintf(`<VirtualHost %s>
    ServerName shop.example.com
    SSLEngine on
    SSLCertificateFile %s/fullchain.pem
    SSLCertificateKeyFile %[2]s/privkey.pem
</VirtualHost>
`, at, shop))
	apache := &local.Apache{Dir: dir, Listen: at, Include: filepath.Join(dir, "sites", "*.conf")}
	must(t, apache.Start(t.Context()))
	t.Cleanup(apache.Kill)
	o := discover.Options{Config: apache.ConfigFile(), Binary: filepath.Join(dir, "apache2ctl"), Directory: filepath.Join(dir, "tls")}
	run(t, "/bin/sh", "-c", `printf '#!/bin/sh\nexec %s "$@"\n' "$1" >"$2" && chmod 755 "$2"`, "sh", binary, o.Binary)
	p, err := discover.Inspect(t.Context(), "apache", "web1", o)
	must(t, err)
	if len(p.Targets) != 1 {
		t.Fatalf("proposal %+v", p)
	}
	proposed, _ := p.Targets[0].Settings["reload"].([]string)
	if _, pidFile := p.Targets[0].Settings["pid_file"]; pidFile ||
		!slices.Equal(proposed, discover.ApacheReload(o, false)) && !slices.Equal(proposed, discover.ApacheReload(o, true)) {
		t.Fatalf("settings %+v", p.Targets[0].Settings)
	}
	p.Targets[0].Settings["reload"] = discover.ApacheReload(o, false) // it is no service here
	needs, err := target.Kinds().Needs("apache", settingsOf(t, p.Targets[0]))
	must(t, err)
	if !slices.ContainsFunc(needs.Commands, func(argv []string) bool { return slices.Equal(argv, discover.ApacheReload(o, false)) }) {
		t.Errorf("the policy is not asked for it: %v", needs.Commands)
	}
	seed(t, p)
	apply(t, p.Changes)
	run(t, discover.ApacheReload(o, false)...)
	opened, err := target.Open(certctl.TargetCommand{Name: "web", Kind: "apache", Settings: settingsOf(t, p.Targets[0])}, env(t))
	must(t, err)
	install := targettest.Installs(t, "shop.example.com", "shop.example.com")()
	if r := opened.Apply(t.Context(), []target.Install{install}); len(r) != 1 || r[0].Outcome != certctl.OutcomeVerified {
		t.Errorf("receipts %+v", r)
	}
}

func TestApacheReloadByService(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "apache2ctl"), "")
	write(t, filepath.Join(dir, "own", "apachectl"), "")
	must(t, os.Symlink("apache2ctl", filepath.Join(dir, "apachectl")))
	for binary, unit := range map[string]string{"apache2ctl": "apache2", "apachectl": "apache2", "own/apachectl": "httpd"} {
		got := discover.ApacheReload(discover.Options{Binary: filepath.Join(dir, binary)}, true)
		if want := []string{"/usr/bin/systemctl", "reload", unit}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", binary, got, want)
		}
	}
}
