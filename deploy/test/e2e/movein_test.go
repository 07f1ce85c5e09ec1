package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
	"github.com/go-acme/lego/v4/certcrypto"
	legocert "github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
)

// before is a machine on which another client renews certificates of a CA.
type before struct {
	t       *testing.T
	ca      *acmetest.Server
	dir     string // of the client
	webroot string
	bundle  string // file with the roots of the CA's server
	listen  string // where certctl answers for proofs
}

// newBefore starts the CA. What stands on port 80 answers from the webroot, and
// hands on to certctl what is not there, as one would during a move.
func newBefore(t *testing.T) *before {
	t.Helper()
	b := &before{t: t, ca: acmetest.Start(t, acmetest.Options{}), dir: t.TempDir(), webroot: t.TempDir(), bundle: t.TempDir() + "/ca.pem"}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.listen = free.Addr().String()
	if err := os.WriteFile(b.bundle, []byte(b.ca.CABundle), 0o600); err != nil {
		t.Fatal(err)
	}
	onward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: b.listen})
	files := http.FileServer(http.Dir(b.webroot))
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(filepath.Join(b.webroot, filepath.Clean(r.URL.Path))); err == nil {
			files.ServeHTTP(w, r)
			return
		}
		onward.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(b.ca.Challenges) }()
	t.Cleanup(func() { _ = server.Close() })
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a client as its users do.
func (b *before) run(env []string, name string, args ...string) {
	b.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.t.Fatalf("%v: ./task setup:all installs it", err)
	}
	cmd := exec.CommandContext(b.t.Context(), path, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// moves imports a folder, has the certificate of that name renewed, and looks
// what the CA has seen of it.
func (b *before) moves(client, name, host string, more ...string) {
	b.t.Helper()
	s := startInstallation(b.t, &local.Installation{ServerEnv: []string{"CERTCTL_ACME_HTTP_LISTEN=" + b.listen}})
	args := append([]string{"certificates", "import-from", client, b.dir, "--ca-bundle", b.bundle, "--allow-private-networks"}, more...)
	if out := s.ok("", append(args, "--dry-run")...); !strings.Contains(out, "would import") {
		b.t.Errorf("the dry run says\n%s", out)
	}
	if list := s.ok("", "issuers", "list"); strings.Contains(list, client) {
		b.t.Errorf("the dry run has made something:\n%s", list)
	}
	out := s.ok("", args...)
	if !strings.Contains(out, "imported") || !strings.Contains(out, "certctl certificates bind "+name+" TARGET") || !strings.Contains(out, "keep "+client+" from renewing") {
		b.t.Errorf("the report is\n%s", out)
	}
	again := s.ok("", args...)
	if strings.Contains(again, "imported") || !strings.Contains(again, "there") {
		b.t.Errorf("the second time is\n%s", again)
	}
	b.secret(out, again, s.Server.Process().Log())

	first := s.leaf(name)
	id, err := certctl.RenewalInfoID(first)
	s.must(err)
	s.ok("", "certificates", "bind", name, "web")
	s.eventually(60*time.Second, "what was imported is served", func() bool { return s.certificate(name).Status.State == "active" })
	b.served(s, host, s.versions(name)[0].Fingerprint)
	s.ok("", "certificates", "renew", name)
	s.eventually(90*time.Second, "it is renewed and served", func() bool {
		return len(s.versions(name)) == 2 && s.certificate(name).Status.State == "active"
	})
	b.served(s, host, s.versions(name)[0].Fingerprint)
	if n := b.ca.Accounts(); n != 1 {
		b.t.Errorf("the CA has %d accounts", n)
	}
	if replaced := b.ca.Replaced(); !slices.Equal(replaced, []string{id}) {
		b.t.Errorf("the renewal replaces %v, want %s", replaced, id)
	}
	b.secret(s.Server.Process().Log())
}

// served waits until nginx serves a leaf of the CA's.
func (b *before) served(s *stack, host, want string) {
	b.t.Helper()
	s.eventually(20*time.Second, "nginx serves "+want, func() bool {
		conn, err := tls.Dial("tcp", s.NginxAddress(), &tls.Config{RootCAs: b.ca.Roots, ServerName: host, MinVersion: tls.VersionTLS12})
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		return fingerprint(conn.ConnectionState().PeerCertificates[0]) == want
	})
}

// leaf is the newest of a certificate.
func (s *stack) leaf(name string) []byte {
	s.t.Helper()
	block, _ := pem.Decode([]byte(s.ok("", "certificates", "chain", name)))
	if block == nil {
		s.t.Fatal("no chain")
	}
	return block.Bytes
}

// secret fails the test where a private key of the client's folder shows.
func (b *before) secret(texts ...string) {
	b.t.Helper()
	err := filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.Contains(filepath.Base(path), "key") {
			return err
		}
		content, err := os.ReadFile(path)
		// Lines of PEM, numbers of a JWK.
		for _, part := range strings.FieldsFunc(string(content), func(c rune) bool { return c == '"' || c <= ' ' }) {
			for _, text := range texts {
				if len(part) > 40 && strings.Contains(text, part) {
					b.t.Errorf("%s shows", path)
				}
			}
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
	for _, text := range texts {
		if strings.Contains(text, "PRIVATE KEY") {
			b.t.Error("a private key shows")
		}
	}
}

func needsAll(t *testing.T) {
	t.Helper()
	if os.Getenv("CERTCTL_TEST_ALL") == "" {
		t.Skip("runs the client itself: ./task test:all")
	}
}

// A folder that certbot itself has made.
func TestMovingInFromCertbot(t *testing.T) {
	t.Parallel()
	needsAll(t)
	b := newBefore(t)
	b.run([]string{"REQUESTS_CA_BUNDLE=" + b.bundle}, "certbot", "certonly", "--webroot", "-w", b.webroot,
		"-d", "shop.example.com", "-d", "www.shop.example.com", "--server", b.ca.Directory, "--non-interactive", "--agree-tos",
		"-m", "ops@example.com", "--no-eff-email", "--config-dir", b.dir, "--work-dir", t.TempDir(), "--logs-dir", t.TempDir())
	b.moves("certbot", "shop.example.com", "www.shop.example.com")
}

// A folder that lego itself has made.
func TestMovingInFromLego(t *testing.T) {
	t.Parallel()
	needsAll(t)
	b := newBefore(t)
	b.run([]string{"LEGO_CA_CERTIFICATES=" + b.bundle}, "lego", "--server", b.ca.Directory, "--email", "ops@example.com", "--accept-tos",
		"--path", b.dir, "--http", "--http.webroot", b.webroot, "--domains", "shop.example.com", "run")
	b.moves("lego", "shop.example.com", "shop.example.com", "--directory", b.ca.Directory)
}

// acmeShAccount is an account that the test itself registers.
type acmeShAccount struct {
	key          *ecdsa.PrivateKey
	registration *registration.Resource
}

func (a *acmeShAccount) GetEmail() string                        { return "ops@example.com" }
func (a *acmeShAccount) GetRegistration() *registration.Resource { return a.registration }
func (a *acmeShAccount) GetPrivateKey() crypto.PrivateKey        { return a.key }

// Present implements lego's challenge.Provider.
func (b *before) Present(_, token, answer string) error {
	dir := filepath.Join(b.webroot, ".well-known", "acme-challenge")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a webroot
		return err
	}
	return os.WriteFile(filepath.Join(dir, token), []byte(answer), 0o600)
}

// CleanUp implements lego's challenge.Provider.
func (b *before) CleanUp(_, _, _ string) error { return nil }

// obtain registers an account and gets a certificate.
func (b *before) obtain(names ...string) (*acmeShAccount, *legocert.Resource) {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	account := &acmeShAccount{key: key}
	config := lego.NewConfig(account)
	config.CADirURL, config.Certificate.KeyType = b.ca.Directory, certcrypto.EC256
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(b.ca.CABundle))
	config.HTTPClient.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool //nolint:forcetypeassert // lego's own
	client, err := lego.NewClient(config)
	if err == nil {
		err = client.Challenge.SetHTTP01Provider(b)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	account.registration, err = client.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true})
	if err != nil {
		b.t.Fatal(err)
	}
	got, err := client.Certificate.Obtain(legocert.ObtainRequest{Domains: names, Bundle: false})
	if err != nil {
		b.t.Fatal(err)
	}
	return account, got
}

// acme.sh is in no distribution: the folder is written as its documentation and
// its files describe it, with the account and the certificate of a real CA.
func TestMovingInFromAcmeSh(t *testing.T) {
	t.Parallel()
	b := newBefore(t)
	account, got := b.obtain("shop.example.com", "www.shop.example.com")
	u, err := url.Parse(b.ca.Directory)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(account.key)
	if err != nil {
		t.Fatal(err)
	}
	ca := "ca/" + u.Hostname() + u.Path
	for name, content := range map[string]string{
		ca + "/account.key": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		ca + "/ca.conf":     fmt.Sprintf("CA_KEY_HASH='x'\nACCOUNT_URL='%s'\nCA_EMAIL='ops@example.com'\n", account.registration.URI),
		"account.conf":      "ACCOUNT_EMAIL='ops@example.com'\n",
		"shop.example.com_ecc/shop.example.com.conf": fmt.Sprintf(
			"Le_Domain='shop.example.com'\nLe_Alt='www.shop.example.com'\nLe_Webroot='%s'\nLe_PreHook=''\nLe_API='%s'\nLe_Keylength='ec-256'\n"+
				"Le_ReloadCmd='__ACME_BASE64__START_c3lzdGVtY3RsIHJlbG9hZCBuZ2lueA==__ACME_BASE64__END_'\n", b.webroot, b.ca.Directory),
		"shop.example.com_ecc/shop.example.com.cer": string(got.Certificate),
		"shop.example.com_ecc/fullchain.cer":        string(got.Certificate) + string(got.IssuerCertificate),
		"shop.example.com_ecc/shop.example.com.key": string(got.PrivateKey),
	} {
		path := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.moves("acme.sh", "shop.example.com", "www.shop.example.com")
}
