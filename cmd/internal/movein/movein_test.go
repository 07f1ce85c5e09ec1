package movein_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/cmd/internal/movein"
)

const directory = "https://acme-v02.api.letsencrypt.org/directory"

// pair is a certificate with its key in PEM.
func pair(t testing.TB, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// jwk is an account key as certbot writes it.
func jwk(t testing.TB) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n := func(i *big.Int) string { return base64.RawURLEncoding.EncodeToString(i.Bytes()) }
	text, err := json.Marshal(map[string]string{
		"kty": "RSA", "n": n(key.N), "e": n(big.NewInt(int64(key.E))), "d": n(key.D), "p": n(key.Primes[0]), "q": n(key.Primes[1]),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func renewal(authenticator string) string {
	return fmt.Sprintf("version = 2.1.0\n[renewalparams]\naccount = abc\nauthenticator = %s\nserver = %s\nkey_type = ecdsa\npreferred_chain = ISRG Root X1\n", authenticator, directory)
}

// letsencrypt is a folder of certbot with two certificates.
func letsencrypt(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := pair(t, "shop.example.com")
	wild, wildKey := pair(t, "*.example.com", "example.com")
	write(t, dir, map[string]string{
		"accounts/acme-v02.api.letsencrypt.org/directory/abc/private_key.json": jwk(t),
		"accounts/acme-v02.api.letsencrypt.org/directory/abc/regr.json":        `{"body": {}, "uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1"}`,
		"renewal/shop.example.com.conf":                                        renewal("webroot") + "[[webroot_map]]\nshop.example.com = /var/www\n",
		"renewal/example.com.conf":                                             renewal("dns-cloudflare") + "deploy_hook = systemctl reload nginx\n",
		"archive/shop.example.com/fullchain3.pem":                              cert,
		"archive/shop.example.com/privkey3.pem":                                key,
		"live/example.com/fullchain.pem":                                       wild,
		"live/example.com/privkey.pem":                                         wildKey,
	})
	link(t, "../../archive/shop.example.com/fullchain3.pem", dir+"/live/shop.example.com/fullchain.pem")
	link(t, "../../archive/shop.example.com/privkey3.pem", dir+"/live/shop.example.com/privkey.pem")
	return dir
}

func TestCertbotsFolderIsRead(t *testing.T) {
	t.Parallel()
	found, err := movein.Read(movein.Certbot, letsencrypt(t), movein.Options{})
	if err != nil || len(found.Problems) > 0 || len(found.Accounts) != 1 || len(found.Certificates) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if a := found.Accounts[0]; a.Directory != directory || a.ID != "abc" || !strings.HasPrefix(string(a.Key), "-----BEGIN PRIVATE KEY") || !strings.HasSuffix(a.URL, "/1") {
		t.Errorf("account %+v", a)
	}
	if text := fmt.Sprintf("%v %+v %#v", found, found, found); strings.Contains(text, "PRIVATE KEY") {
		t.Error("a key is printed")
	}
	if raw, err := json.Marshal(found); err != nil || strings.Contains(string(raw), "PRIVATE KEY") {
		t.Errorf("a key is encoded, %v", err)
	}
	plan := movein.PlanOf(movein.Certbot, found)
	if len(plan.Issuers) != 1 || len(plan.Imports) != 2 {
		t.Fatalf("%+v", plan)
	}
	i := plan.Issuers[0]
	if i.Name != "certbot-letsencrypt" || i.Chain != "ISRG Root X1" || fmt.Sprint(i.Rules) != "[{dns-01 cloudflare [*.example.com example.com]} {http-01  []}]" {
		t.Errorf("issuer %s %s %v", i.Name, i.Chain, i.Rules)
	}
	if shop := plan.Imports[1]; shop.Name != "shop.example.com" || len(shop.ToDo) != 1 || !strings.Contains(shop.ToDo[0], "/var/www") {
		t.Errorf("import %+v", shop)
	}
}

// Nothing outside of the folder is read, and nothing that could block.
func TestNothingOutsideOfTheFolderIsRead(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	cert, key := pair(t, "other.example.com")
	write(t, outside, map[string]string{"fullchain.pem": cert, "privkey.pem": key})
	for name, spoil := range map[string]func(file string) error{
		"a link that leads out": func(file string) error { return os.Symlink(outside+"/privkey.pem", file) },
		"one with dots": func(file string) error {
			return os.Symlink("../../../"+filepath.Base(outside)+"/privkey.pem", file)
		},
		"a pipe":   func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a folder": func(file string) error { return os.Mkdir(file, 0o700) },
		"too big":  func(file string) error { return os.WriteFile(file, make([]byte, 2<<20), 0o600) },
	} {
		dir := letsencrypt(t)
		file := dir + "/live/example.com/privkey.pem"
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := spoil(file); err != nil {
			t.Fatal(err)
		}
		found, err := movein.Read(movein.Certbot, dir, movein.Options{})
		if err != nil || len(found.Certificates) != 1 || len(found.Problems) != 1 || found.Problems[0].What != "renewal/example.com.conf" {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
}

func TestAcmeShsFolderIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := pair(t, "*.example.com", "shop.example.com")
	_, account := pair(t, "x")
	write(t, dir, map[string]string{
		"ca/acme-v02.api.letsencrypt.org/directory/account.key": "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + account,
		"ca/acme-v02.api.letsencrypt.org/directory/ca.conf":     "CA_EMAIL='ops@example.com'\n",
		"*.example.com_ecc/*.example.com.conf":                  "Le_Domain='*.example.com'\nLe_Alt='shop.example.com'\nLe_Webroot='dns_cf,/var/www'\nLe_API='" + directory + "'\nLe_ReloadCmd='__ACME_BASE64__START_eA==__ACME_BASE64__END_'\n",
		"*.example.com_ecc/*.example.com.cer":                   cert,
		"*.example.com_ecc/*.example.com.key":                   key,
		"never.example.com/never.example.com.conf":              "Le_Domain='never.example.com'\n",
	})
	found, err := movein.Read(movein.AcmeSh, dir, movein.Options{})
	if err != nil || len(found.Accounts) != 1 || len(found.Certificates) != 1 || len(found.Problems) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if a := found.Accounts[0]; a.Directory != directory || len(a.Contact) != 1 || strings.Contains(string(a.Key), "PARAMETERS") {
		t.Errorf("account %+v", a)
	}
	if c := found.Certificates[0]; c.Hook != "x" || fmt.Sprint(c.Proofs) != "[{[*.example.com] cf acme.sh's dns_cf} {[shop.example.com]  acme.sh's webroot /var/www}]" {
		t.Errorf("certificate %+v", c)
	}
	if plan := movein.PlanOf(movein.AcmeSh, found); plan.Imports[0].Name != "wildcard.example.com" {
		t.Errorf("name %s", plan.Imports[0].Name)
	}
}

// lego keeps no directory, and does not say of which account a certificate is.
func TestLegosFolderIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := pair(t, "shop.example.com")
	_, account := pair(t, "x")
	files := map[string]string{
		"certificates/shop.example.com.json": `{"domain": "shop.example.com", "certUrl": "https://ca.example.com:14000/certZ/1"}`,
		"certificates/shop.example.com.crt":  cert,
		"certificates/shop.example.com.key":  key,
	}
	for _, mail := range []string{"a@example.com", "b@example.com"} {
		files["accounts/ca.example.com_14000/"+mail+"/account.json"] = `{"email": "` + mail + `", "registration": {"body": {}, "uri": "https://ca.example.com:14000/acct/1"}}`
		files["accounts/ca.example.com_14000/"+mail+"/keys/"+mail+".key"] = account
	}
	write(t, dir, files)
	for _, try := range []struct {
		o        movein.Options
		n        int
		problems string
	}{
		{movein.Options{}, 0, "--directory"},
		{movein.Options{Directory: "https://elsewhere.example.com/dir"}, 0, "--directory"},
		{movein.Options{Directory: "https://ca.example.com:14000/dir"}, 0, "--account"},
		{movein.Options{Directory: "https://ca.example.com:14000/dir", Account: "b@example.com"}, 1, "[]"},
	} {
		found, err := movein.Read(movein.Lego, dir, try.o)
		if err != nil || len(found.Certificates) != try.n || !strings.Contains(fmt.Sprint(found.Problems), try.problems) {
			t.Errorf("%+v: %+v, %v", try.o, found, err)
		}
	}
}

func TestAFolderOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	for _, client := range []string{movein.Certbot, movein.AcmeSh, movein.Lego, "other"} {
		if _, err := movein.Read(client, t.TempDir(), movein.Options{}); err == nil {
			t.Errorf("%s: an empty folder is read", client)
		}
	}
}

// fuzzed reads a folder whose files the fuzzer has written: whatever is in them,
// there is an answer, and no key in it that is none.
func fuzzed(t *testing.T, client string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	found, err := movein.Read(client, dir, movein.Options{Directory: directory})
	if err != nil {
		return
	}
	for _, a := range found.Accounts {
		if block, _ := pem.Decode([]byte(a.Key)); block == nil {
			t.Errorf("account without a key: %+v", a)
		}
	}
	for _, c := range found.Certificates {
		if block, _ := pem.Decode([]byte(c.Key)); block == nil || c.Chain == "" {
			t.Errorf("certificate without a key or chain: %+v", c)
		}
	}
	movein.PlanOf(client, found)
}

func FuzzCertbot(f *testing.F) {
	cert, key := pair(f, "a.example.com")
	f.Add(renewal("webroot"), jwk(f), `{"uri": "x"}`, cert, key)
	f.Add("[renewalparams]\n[", `{"kty": "EC", "crv": "P-256", "d": "AA"}`, "", "", "")
	f.Fuzz(func(t *testing.T, conf, account, regr, chain, key string) {
		fuzzed(t, movein.Certbot, map[string]string{
			"renewal/a.conf": conf, "live/a/fullchain.pem": chain, "live/a/privkey.pem": key,
			"accounts/acme-v02.api.letsencrypt.org/directory/abc/private_key.json": account,
			"accounts/acme-v02.api.letsencrypt.org/directory/abc/regr.json":        regr,
		})
	})
}

func FuzzAcmeSh(f *testing.F) {
	cert, key := pair(f, "a.example.com")
	f.Add("Le_Domain='a'\nLe_Webroot='dns_cf,no'\nLe_Alt='b,c'\nLe_API='"+directory+"'", "CA_EMAIL='a@b.c'", cert, key)
	f.Fuzz(func(t *testing.T, conf, ca, chain, key string) {
		fuzzed(t, movein.AcmeSh, map[string]string{
			"a/a.conf": conf, "a/a.cer": chain, "a/a.key": key,
			"ca/acme-v02.api.letsencrypt.org/directory/account.key": key, "ca/acme-v02.api.letsencrypt.org/directory/ca.conf": ca,
		})
	})
}

func FuzzLego(f *testing.F) {
	cert, key := pair(f, "a.example.com")
	f.Add(`{"certUrl": "https://acme-v02.api.letsencrypt.org/x"}`, `{"email": "a@b.c", "registration": {"uri": "x", "body": {"contact": ["mailto:a@b.c"]}}}`, cert, key)
	f.Fuzz(func(t *testing.T, noted, account, chain, key string) {
		fuzzed(t, movein.Lego, map[string]string{
			"certificates/a.json": noted, "certificates/a.crt": chain, "certificates/a.key": key,
			"accounts/acme-v02.api.letsencrypt.org/a/account.json": account, "accounts/acme-v02.api.letsencrypt.org/a/keys/a.key": key,
		})
	})
}
