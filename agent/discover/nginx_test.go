package discover_test

import (
	"bytes"
	"context"
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
	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file with the folders above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// live makes a certificate as certbot leaves one, and returns its folder.
func live(t *testing.T, dir, name string, names ...string) string {
	t.Helper()
	folder := filepath.Join(dir, "letsencrypt", "live", name)
	must(t, os.MkdirAll(folder, 0o755))
	targettest.WritePair(t, filepath.Join(folder, "fullchain.pem"), filepath.Join(folder, "privkey.pem"), names...)
	return folder
}

// startNginx starts nginx with a configuration as people write it: %s is its folder,
// and ADDRESS where it listens.
func startNginx(t *testing.T, dir, address string, sites map[string]string) *local.Nginx {
	t.Helper()
	expand := strings.NewReplacer("ADDRESS", address, "DIR", dir)
	for name, text := range sites {
		write(t, filepath.Join(dir, "sites-available", name), expand.Replace(text))
		must(t, os.MkdirAll(filepath.Join(dir, "sites-enabled"), 0o755))
		must(t, os.Symlink(filepath.Join("..", "sites-available", name), filepath.Join(dir, "sites-enabled", name)))
	}
	config := local.NginxConfig(dir, filepath.Join(dir, "sites-enabled", "*"))
	config = strings.Replace(config, "    access_log off;\n", expand.Replace("    access_log off;\n"+
		"    # ssl_certificate DIR/letsencrypt/live/old/fullchain.pem;\n"+
		"    ssl_certificate letsencrypt/live/default.example.com/fullchain.pem;\n"+
		"    ssl_certificate_key \"DIR/letsencrypt/live/default.example.com/privkey.pem\";\n"), 1)
	nginx := &local.Nginx{Dir: dir, Config: config, Listen: address}
	must(t, nginx.Start(t.Context()))
	t.Cleanup(nginx.Kill)
	return nginx
}

// sites are what Debian's folders may hold.
var sites = map[string]string{
	"shop": `# the shop
server {
    listen 80; # not TLS
    listen ADDRESS ssl http2;
    server_name shop.example.com
                www.shop.example.com;
    ssl_certificate DIR/letsencrypt/live/shop.example.com/fullchain.pem; # by certbot
    ssl_certificate_key DIR/letsencrypt/live/shop.example.com/privkey.pem;
    location / { return 200 "}{;"; }
}
`,
	"inherits": "server { listen ADDRESS ssl; server_name default.example.com; }\n",
	"pair": `server {
    listen ADDRESS ssl; server_name pair.example.com;
    ssl_certificate DIR/pair/ec.pem; ssl_certificate_key DIR/pair/ec.key;
    ssl_certificate DIR/pair/rsa.pem; ssl_certificate_key DIR/pair/rsa.key;
}
`,
	"variable": "server { listen ADDRESS ssl; server_name v.example.com; ssl_certificate DIR/$ssl_server_name.pem; ssl_certificate_key DIR/$ssl_server_name.key; }\n",
}

func nginxWorld(t *testing.T) (dir, address string, nginx *local.Nginx) {
	t.Helper()
	dir = t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address = local.Loopback(port)
	live(t, dir, "default.example.com", "default.example.com")
	live(t, dir, "shop.example.com", "shop.example.com", "www.shop.example.com")
	must(t, os.MkdirAll(filepath.Join(dir, "pair"), 0o755))
	targettest.WritePair(t, filepath.Join(dir, "pair", "ec.pem"), filepath.Join(dir, "pair", "ec.key"), "pair.example.com")
	targettest.WriteRSAPair(t, filepath.Join(dir, "pair", "rsa.pem"), filepath.Join(dir, "pair", "rsa.key"), "pair.example.com")
	http80 := strings.Replace(sites["shop"], "    listen 80; # not TLS\n", "", 1) // a port of root's own
	own := map[string]string{}
	for name, text := range sites {
		own[name] = text
	}
	own["shop"] = http80
	return dir, address, startNginx(t, dir, address, own)
}

func inspectNginx(t *testing.T, nginx *local.Nginx) discover.Proposal {
	t.Helper()
	binary, err := local.FindNginx()
	must(t, err)
	p, err := discover.Inspect(t.Context(), "nginx", "web1", discover.Options{
		Config: nginx.ConfigFile(), Binary: binary, PIDFile: nginx.PIDFile(), Directory: filepath.Join(nginx.Dir, "tls"),
	})
	must(t, err)
	return p
}

// nginx's own configuration, with includes, inheritance, pairs and variables, gives
// one target with a place per certificate.
func TestNginxIsRead(t *testing.T) {
	t.Parallel()
	dir, address, nginx := nginxWorld(t)
	before := targettest.Snapshot(t, dir)
	p := inspectNginx(t, nginx)
	if changed := targettest.Changed(before, targettest.Snapshot(t, dir)); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
	if len(p.Targets) != 1 || !strings.Contains(p.Daemon, "nginx") {
		t.Fatalf("proposal %+v", p)
	}
	target := p.Targets[0]
	if target.Name != "web1-nginx" || target.Kind != "nginx" || !slices.Equal(target.Settings["listen"].([]string), []string{address}) { //nolint:forcetypeassert // our own
		t.Errorf("target %+v", target)
	}
	var places []string
	for _, place := range target.Places {
		places = append(places, fmt.Sprintf("%s %s %v", place.Place, place.Slot, place.Names))
	}
	want := []string{
		"default.example.com default [default.example.com]", "pair.example.com ecdsa [pair.example.com]", "pair.example.com rsa [pair.example.com]",
		"shop.example.com default [shop.example.com www.shop.example.com]",
	}
	if !slices.Equal(places, want) {
		t.Errorf("places %v", places)
	}
	if i := slices.IndexFunc(p.Problems, func(x discover.Problem) bool { return strings.Contains(x.Message, "variable") }); i < 0 || p.Problems[i].Remedy == "" {
		t.Errorf("problems %+v", p.Problems)
	}
}

// The proposed patch names the places' files, and nginx takes it once they are there.
func TestNginxTakesTheProposedChange(t *testing.T) {
	t.Parallel()
	dir, address, nginx := nginxWorld(t)
	p := inspectNginx(t, nginx)
	served := func(name string) certctl.Digest {
		got, err := probe.TLS(t.Context(), address, name)
		must(t, err)
		return got.Fingerprint
	}
	before := served("shop.example.com")
	for _, place := range p.Targets[0].Places {
		folder := place.Place
		if place.Slot != certctl.SlotDefault {
			folder += "~" + string(place.Slot)
		}
		current := filepath.Join(dir, "tls", folder, "current")
		must(t, os.MkdirAll(current, 0o755))
		for from, to := range map[string]string{place.Certificate: "fullchain.pem", place.Key: "privkey.pem"} {
			content, err := os.ReadFile(from)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(current, to), content, 0o600))
		}
	}
	apply(t, p.Changes)
	must(t, os.RemoveAll(filepath.Join(dir, "letsencrypt")))
	must(t, os.RemoveAll(filepath.Join(dir, "pair")))
	must(t, nginx.Stop(t.Context()))
	again := &local.Nginx{Dir: dir, Listen: address}
	must(t, again.Start(t.Context()))
	t.Cleanup(again.Kill)
	if after := served("shop.example.com"); after != before {
		t.Errorf("%s is served, before %s", after, before)
	}
	if again := inspectNginx(t, again); again.Changes != "" || len(again.Targets) != 1 || len(again.Targets[0].Places) != len(p.Targets[0].Places) {
		t.Errorf("changes once more: %s", again.Changes)
	}
}

// apply applies a proposed patch as its reader would.
func apply(t *testing.T, changes string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "patch", "-d", "/", "-p0", "--batch")
	cmd.Stdin = strings.NewReader(changes)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out.String(), changes)
	}
}

// A name of a certificate that something else is served for would fail each
// installation: it is said beforehand.
func TestNginxNamesThatAreServedByOthersAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address := local.Loopback(port)
	live(t, dir, "default.example.com", "default.example.com")
	live(t, dir, "shop.example.com", "shop.example.com", "forgotten.example.com")
	p := inspectNginx(t, startNginx(t, dir, address, map[string]string{"a": sites["inherits"], "shop": strings.Replace(sites["shop"], "    listen 80; # not TLS\n", "", 1)}))
	if !slices.ContainsFunc(p.Problems, func(x discover.Problem) bool {
		return strings.Contains(x.Message, "forgotten.example.com") && x.Remedy != ""
	}) {
		t.Errorf("problems %+v", p.Problems)
	}
}

// What nginx does not take is not guessed at.
func TestABrokenConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	binary, err := local.FindNginx()
	must(t, err)
	config := filepath.Join(t.TempDir(), "nginx.conf")
	write(t, config, "no_such_directive;\n")
	_, err = discover.Inspect(t.Context(), "nginx", "web1", discover.Options{Config: config, Binary: binary})
	if certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("%v", err)
	}
	if _, err := discover.Inspect(t.Context(), "iis", "web1", discover.Options{}); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("an unknown kind: %v", err)
	}
}

// An address is for TLS when one server says so: the others there serve theirs, too.
func TestNginxServersShareWhatTheirAddressIsFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address := local.Loopback(port)
	live(t, dir, "default.example.com", "default.example.com")
	live(t, dir, "shop.example.com", "shop.example.com")
	other, err := local.FreePort()
	must(t, err)
	nginx := startNginx(t, dir, address, map[string]string{
		"a": "server { listen ADDRESS ssl; server_name default.example.com; }\n",
		"b": "server { listen ADDRESS; server_name shop.example.com; ssl_certificate DIR/letsencrypt/live/shop.example.com/fullchain.pem; " +
			"ssl_certificate_key DIR/letsencrypt/live/shop.example.com/privkey.pem; }\n",
		"plain": fmt.Sprintf("server { listen %s; server_name shop.example.com; }\n", local.Loopback(other)),
	})
	p := inspectNginx(t, nginx)
	if len(p.Targets) != 1 || len(p.Targets[0].Places) != 2 || len(p.Problems) > 0 {
		t.Fatalf("proposal %+v", p)
	}
	shop := p.Targets[0].Places[1]
	served, err := probe.TLS(t.Context(), address, "shop.example.com")
	must(t, err)
	if shop.Place != "shop.example.com" || served.Fingerprint != shop.Fingerprint {
		t.Errorf("nginx serves %s, the place is %+v", served.Fingerprint, shop)
	}
}

// nginx reads no DH parameters from where certificates are, so that nothing is lost
// without them; a second key is somebody's.
func TestNginxFilesMayHoldDHParameters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address := local.Loopback(port)
	live(t, dir, "default.example.com", "default.example.com")
	shop := live(t, dir, "shop.example.com", "shop.example.com")
	run(t, "/bin/sh", "-c", `openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 >>"$1" 2>/dev/null`, "sh", filepath.Join(shop, "fullchain.pem"))
	second := live(t, dir, "second.example.com", "second.example.com")
	key, err := os.ReadFile(filepath.Join(shop, "privkey.pem"))
	must(t, err)
	appendTo(t, filepath.Join(second, "privkey.pem"), key)
	site := strings.Replace(sites["shop"], "    listen 80; # not TLS\n", "", 1)
	nginx := startNginx(t, dir, address, map[string]string{
		"a": sites["inherits"], "shop": site, "second": strings.ReplaceAll(site, "shop.example.com", "second.example.com"),
	})
	p := inspectNginx(t, nginx)
	if len(p.Targets) != 1 || len(p.Targets[0].Places) != 2 || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Message, "PRIVATE KEY") {
		t.Fatalf("proposal %+v", p)
	}
	seed(t, p)
	apply(t, p.Changes)
	must(t, nginx.Reload())
	installed, err := os.ReadFile(filepath.Join(dir, "tls", "shop.example.com", "current", "fullchain.pem"))
	must(t, err)
	if strings.Contains(string(installed), "DH PARAMETERS") {
		t.Error("a generation holds DH parameters")
	}
}

// What is served for a name of one of a pair is asked for by its kind of key.
func TestNginxPairsAreComparedWithWhatIsServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address := local.Loopback(port)
	live(t, dir, "default.example.com", "default.example.com")
	must(t, os.MkdirAll(filepath.Join(dir, "pair"), 0o755))
	targettest.WritePair(t, filepath.Join(dir, "pair", "ec.pem"), filepath.Join(dir, "pair", "ec.key"), "pair.example.com")
	targettest.WriteRSAPair(t, filepath.Join(dir, "pair", "rsa.pem"), filepath.Join(dir, "pair", "rsa.key"), "pair.example.com", "alone.example.com")
	targettest.WriteRSAPair(t, filepath.Join(dir, "alone.pem"), filepath.Join(dir, "alone.key"), "alone.example.com")
	p := inspectNginx(t, startNginx(t, dir, address, map[string]string{
		"a": sites["inherits"], "pair": sites["pair"],
		"alone": "server { listen ADDRESS ssl; server_name alone.example.com; ssl_certificate DIR/alone.pem; ssl_certificate_key DIR/alone.key; }\n",
	}))
	if len(p.Problems) != 1 || !strings.HasSuffix(p.Problems[0].Where, "rsa.pem") || !strings.Contains(p.Problems[0].Message, "alone.example.com") {
		t.Errorf("problems %+v", p.Problems)
	}
}
