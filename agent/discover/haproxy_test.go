package discover_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
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

// haproxyConfig names a file, a folder, a list and a variable.
const haproxyConfig = `global
    log stderr format raw local0
    crt-base DIR/base
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend one
    bind FIRST,/run/none.sock ssl crt first.pem # the file
    http-request return status 200
frontend two
    bind FIRST2 ssl crt "DIR/certs/"
    http-request return status 200
frontend three
    bind FIRST3 ssl crt-list DIR/list.txt
    http-request return status 200
`

// bundle writes certificate and key in one file.
func bundle(t *testing.T, path string, names ...string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	dir := t.TempDir()
	targettest.WritePair(t, filepath.Join(dir, "c"), filepath.Join(dir, "k"), names...)
	c, err := os.ReadFile(filepath.Join(dir, "c"))
	must(t, err)
	k, err := os.ReadFile(filepath.Join(dir, "k"))
	must(t, err)
	must(t, os.WriteFile(path, append(c, k...), 0o600))
}

func addresses(t *testing.T, n int) (all []string) {
	t.Helper()
	for range n {
		port, err := local.FreePort()
		must(t, err)
		all = append(all, local.Loopback(port))
	}
	return all
}

// HAProxy's files, folders and lists are found, each with the addresses that serve
// it; a folder's files become links, so that no line changes.
func TestHAProxyIsRead(t *testing.T) {
	t.Parallel()
	binary, err := local.FindHAProxy()
	must(t, err)
	dir, at := t.TempDir(), addresses(t, 3)
	bundle(t, filepath.Join(dir, "base", "first.pem"), "first.example.com")
	bundle(t, filepath.Join(dir, "certs", "second.pem"), "second.example.com")
	bundle(t, filepath.Join(dir, "certs", "odd"), "odd.example.com")
	bundle(t, filepath.Join(dir, "third.pem"), "third.example.com")
	write(t, filepath.Join(dir, "list.txt"), "# certificates\n"+filepath.Join(dir, "third.pem")+" [alpn h2] third.example.com\n")
	config := strings.NewReplacer("DIR", dir, "FIRST2", at[1], "FIRST3", at[2], "FIRST", at[0], ",/run/none.sock", "").Replace(haproxyConfig)
	haproxy := &local.HAProxy{Dir: dir, Listen: at[0], Config: config}
	must(t, haproxy.Start(t.Context()))
	t.Cleanup(haproxy.Kill)
	p, err := discover.Inspect(t.Context(), "haproxy", "lb1", discover.Options{
		Config: haproxy.ConfigFile(), Binary: binary, PIDFile: filepath.Join(dir, "haproxy.pid"), Directory: filepath.Join(dir, "tls"),
	})
	must(t, err)
	var got []string
	for _, target := range p.Targets {
		for _, place := range target.Places {
			got = append(got, fmt.Sprintf("%v %s", target.Settings["listen"], place.Place))
		}
	}
	want := []string{"[" + at[0] + "] first.example.com", "[" + at[1] + "] second", "[" + at[2] + "] third.example.com"}
	if !slices.Equal(got, want) {
		t.Errorf("places %v, want %v", got, want)
	}
	if !slices.ContainsFunc(p.Problems, func(x discover.Problem) bool { return strings.HasSuffix(x.Where, "/odd") && x.Remedy != "" }) {
		t.Errorf("problems %+v", p.Problems)
	}
	if strings.Contains(p.Changes, "second") || !strings.Contains(p.Changes, "+"+filepath.Join(dir, "tls-3", "third.example.com", "current", "bundle.pem")+" [alpn h2]") {
		t.Errorf("changes %s", p.Changes)
	}
	seed(t, p)
	apply(t, p.Changes)
	must(t, os.RemoveAll(filepath.Join(dir, "base")))
	must(t, os.Remove(filepath.Join(dir, "third.pem")))
	run(t, binary, "-c", "-f", haproxy.ConfigFile())
	if to, err := os.Readlink(filepath.Join(dir, "certs", "second.pem")); err != nil || !strings.HasPrefix(to, filepath.Join(dir, "tls")) {
		t.Errorf("the file of the folder is no link: %s, %v", to, err)
	}
}

// What seed would refuse is a problem and changes no line: a certificate that has
// ended, a chain that does not fit, and files with more than a generation has.
func TestWhatSeedRefusesIsNotProposed(t *testing.T) {
	t.Parallel()
	binary, err := local.FindHAProxy()
	must(t, err)
	dir, at := t.TempDir(), addresses(t, 1)
	certs, config := filepath.Join(dir, "certs"), filepath.Join(dir, "haproxy.cfg")
	for _, name := range []string{"good", "chain", "more"} {
		bundle(t, filepath.Join(certs, name+".pem"), name+".example.com")
	}
	ended(t, filepath.Join(dir, "ended.pem"))
	bundle(t, filepath.Join(dir, "other.pem"), "other.example.com")
	other, err := discover.Files{Certificate: filepath.Join(dir, "other.pem"), Key: filepath.Join(dir, "other.pem")}.Read()
	must(t, err)
	appendTo(t, filepath.Join(certs, "chain.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Leaf}))
	run(t, "/bin/sh", "-c", `openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 >>"$1" 2>/dev/null`, "sh", filepath.Join(certs, "more.pem"))
	before := targettest.Snapshot(t, certs)
	write(t, config, fmt.Sprintf("defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n"+
		"frontend f\n    bind %s ssl crt %s crt %s/ended.pem\n    http-request return status 200\n", at[0], certs, dir))
	p, err := discover.Inspect(t.Context(), "haproxy", "lb1", discover.Options{
		Config: config, Binary: binary, Directory: filepath.Join(dir, "tls"),
	})
	must(t, err)
	if len(p.Targets) != 1 || len(p.Targets[0].Places) != 1 || p.Targets[0].Places[0].Place != "good" || p.Changes != "" {
		t.Errorf("targets %+v, changes %s", p.Targets, p.Changes)
	}
	for file, want := range map[string]string{"ended.pem": "ended on", "chain.pem": "the chain does not fit", "more.pem": "DH PARAMETERS"} {
		if !slices.ContainsFunc(p.Problems, func(x discover.Problem) bool {
			return strings.HasSuffix(x.Where, "/"+file) && strings.Contains(x.Message, want) && x.Remedy != ""
		}) {
			t.Errorf("%s is not among %+v", file, p.Problems)
		}
	}
	seed(t, p)
	changed := targettest.Changed(before, targettest.Snapshot(t, certs))
	slices.Sort(changed)
	if want := []string{certs, filepath.Join(certs, "good.pem")}; !slices.Equal(changed, want) {
		t.Errorf("changed: %v", changed)
	}
	link := filepath.Join(certs, "good.pem") // as if seed had been stopped before it
	content, err := os.ReadFile(link)
	must(t, err)
	must(t, os.Remove(link))
	must(t, os.WriteFile(link, content, 0o600))
	place := p.Targets[0].Places[0]
	pair, err := discover.Files{Certificate: link, Key: link}.Read()
	must(t, err)
	opened, err := target.Open(certctl.TargetCommand{Name: "lb1", Kind: "haproxy", Settings: settingsOf(t, p.Targets[0])}, env(t))
	must(t, err)
	if made, err := opened.Seed(place.Place, place.Slot, pair.Leaf, pair.Chain, pair.Key); made || err != nil {
		t.Errorf("made %t, %v", made, err)
	}
	if to, err := os.Readlink(link); err != nil || !strings.HasPrefix(to, filepath.Join(dir, "tls")) {
		t.Errorf("the link is not mended: %s, %v", to, err)
	}
}

func appendTo(t *testing.T, path string, more []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(content, more...), 0o600))
}

// ended writes a certificate that has ended, with its key.
func ended(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"ended.example.com"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(path, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})...), 0o600))
}

// seed makes the first generations of a proposal, once.
func seed(t *testing.T, p discover.Proposal) {
	t.Helper()
	for _, proposed := range p.Targets {
		opened, err := target.Kinds().Open(certctl.TargetCommand{Name: proposed.Name, Kind: proposed.Kind, Settings: settingsOf(t, proposed)}, env(t))
		must(t, err)
		local, ok := opened.(*target.Target)
		if !ok {
			t.Fatal("not a target of this node")
		}
		for _, place := range proposed.Places {
			pair, err := place.Files(proposed.Kind).Read()
			must(t, err)
			for _, want := range []bool{true, false} { // the second time there is one
				if made, err := local.Seed(place.Place, place.Slot, pair.Leaf, pair.Chain, pair.Key); err != nil || made != want {
					t.Errorf("%s: made %t, %v", place.Place, made, err)
				}
			}
		}
	}
}
