//go:build daemons

package target_test

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/targettest"
)

// output runs a program and returns what it prints.
func output(t *testing.T, argv ...string) string {
	t.Helper()
	said, err := exec.Command(argv[0], argv[1:]...).CombinedOutput() //nolint:gosec // the test's own
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, said)
	}
	return string(said)
}

// pairs holds what a program has written as PEM against the pair that was installed.
func pairs(t *testing.T, path, current string) {
	t.Helper()
	got, err := tls.LoadX509KeyPair(path, path)
	must(t, err)
	want, err := tls.LoadX509KeyPair(filepath.Join(current, "fullchain.pem"), filepath.Join(current, "privkey.pem"))
	must(t, err)
	if string(got.Certificate[0]) != string(want.Certificate[0]) {
		t.Errorf("%s holds another leaf", path)
	}
}

// What is written is read by the programs that it is for: OpenSSL and Java's keytool.
func TestFormatsAreRead(t *testing.T) {
	t.Parallel()
	d := startFormats(t)
	if receipt := targettest.Install(t, d); receipt.Outcome != certctl.OutcomeInstalled {
		t.Fatalf("%+v", receipt)
	}
	dir := filepath.Dir(d.Directory)
	current, password := filepath.Join(d.Directory, "shop", "current"), filepath.Join(dir, "password")
	at := func(name string) string { return filepath.Join(current, name) }

	fromPKCS12 := filepath.Join(dir, "p12.pem")
	output(t, "openssl", "pkcs12", "-in", at("keystore.p12"), "-passin", "file:"+password, "-nodes", "-out", fromPKCS12)
	pairs(t, fromPKCS12, current)

	for store, kind := range map[string]string{"keystore.p12": "PKCS12", "keystore.jks": "JKS"} {
		said := output(t, "keytool", "-list", "-v", "-keystore", at(store), "-storetype", kind, "-storepass:file", password)
		if !strings.Contains(said, "PrivateKeyEntry") || !strings.Contains(said, "shop.example.com") || !strings.Contains(said, "Certificate chain length: 2") {
			t.Errorf("keytool says of %s: %s", store, said)
		}
	}
	converted, fromJKS := filepath.Join(dir, "converted.p12"), filepath.Join(dir, "jks.pem")
	output(t, "keytool", "-importkeystore", "-noprompt", "-srckeystore", at("keystore.jks"), "-srcstoretype", "JKS", "-srcstorepass:file", password,
		"-destkeystore", converted, "-deststoretype", "PKCS12", "-deststorepass:file", password)
	output(t, "openssl", "pkcs12", "-in", converted, "-passin", "file:"+password, "-nodes", "-out", fromJKS)
	pairs(t, fromJKS, current)

	fromDER := filepath.Join(dir, "der.pem")
	certificate := output(t, "openssl", "x509", "-inform", "DER", "-in", at("cert.der"))
	key := output(t, "openssl", "pkcs8", "-inform", "DER", "-nocrypt", "-in", at("privkey.der"))
	must(t, os.WriteFile(fromDER, []byte(certificate+key), 0o600))
	pairs(t, fromDER, current)
	pairs(t, at("bundle.pem"), current)
}
