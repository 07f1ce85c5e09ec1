package main

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// filesBelow returns what a folder holds, by path.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	held := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %#o", path, info.Mode().Perm())
		}
		content, readErr := os.ReadFile(path)
		held[strings.TrimPrefix(path, dir+"/")] = string(content)
		if err == nil {
			err = readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestSetupMakesSecretsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	command := setupCommand{Dir: dir, Host: []string{"api", "nats", "127.0.0.1"}}
	if err := setup(command); err != nil {
		t.Fatal(err)
	}
	first := filesBelow(t, dir)
	if len(first) != 7 || !strings.Contains(first["database/pgpass"], first["database/password"]) {
		t.Errorf("made %v", first)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls/tls.crt"), filepath.Join(dir, "tls/tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	for _, host := range command.Host {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := setup(command); err != nil {
		t.Fatal(err)
	}
	if again := filesBelow(t, dir); !maps.Equal(first, again) {
		t.Error("a second start has changed something")
	}
}

// A setup that was killed between the two files of the pair makes both anew.
func TestSetupMendsAPairOfWhichOneIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	command := setupCommand{Dir: dir, Host: []string{"api"}}
	if err := setup(command); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "tls/tls.crt")); err != nil {
		t.Fatal(err)
	}
	if err := setup(command); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls/tls.crt"), filepath.Join(dir, "tls/tls.key")); err != nil {
		t.Fatal(err)
	}
}

func TestRootFingerprintIsThatOfAChainsRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := setup(setupCommand{Dir: dir, Host: []string{"api"}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tls/tls.crt")
	root, err := lastCertificate(path)
	if err != nil || len(rootFingerprint(path)) != 64 {
		t.Fatalf("%q, %v", rootFingerprint(path), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(root) != string(text) {
		t.Errorf("%s, %v", root, err)
	}
	for name, content := range map[string]string{"nothing": "", "text": "hello\n"} {
		other := filepath.Join(dir, name)
		if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := rootFingerprint(other); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if _, err := lastCertificate(other); err == nil {
			t.Errorf("%s passes for a certificate", name)
		}
	}
}
