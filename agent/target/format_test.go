package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// startFormats is a folder whose generations hold every format.
func startFormats(t *testing.T) *targettest.Daemon {
	t.Helper()
	d := startFiles(t)
	dir := filepath.Dir(d.Directory)
	must(t, os.WriteFile(filepath.Join(dir, "password"), []byte(storePassword+"\n"), 0o600))
	d.Spec = spec(t, "files", map[string]any{
		"directory": d.Directory, "check_command": []string{filepath.Join(dir, "check")}, "reload_command": []string{"/bin/true"},
		"bundle": true, "formats": []string{"der", "pkcs12", "jks"}, "password_file": filepath.Join(dir, "password"),
	})
	return d
}

const storePassword = "a password of a store"

func TestFilesInEveryFormat(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startFormats)
}

func TestFormatSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"an unknown format":      `{"directory": "/srv/tls", "formats": ["bks"]}`,
		"a format twice":         `{"directory": "/srv/tls", "formats": ["der", "der"]}`,
		"no password":            `{"directory": "/srv/tls", "formats": ["pkcs12"]}`,
		"a password in settings": `{"directory": "/srv/tls", "formats": ["pkcs12"], "password": "changeit"}`,
		"a password for nothing": `{"directory": "/srv/tls", "formats": ["der"], "password_file": "/etc/certctl/password"}`,
		"a relative file":        `{"directory": "/srv/tls", "formats": ["jks"], "password_file": "password"}`,
	} {
		if err := target.Validate("files", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("files", []byte(`{"directory": "/srv/tls", "formats": ["jks", "pkcs12", "der"], "password_file": "/etc/certctl/password"}`)))
}

// A password that cannot be used is refused before anything is written.
func TestFormatPasswords(t *testing.T) {
	t.Parallel()
	for name, password := range map[string]string{"none": "\n", "a short one": "12345\n", "another alphabet": "schlüsselwort\n", "two lines": "one two\nthree\n"} {
		d := startFormats(t)
		must(t, os.WriteFile(filepath.Join(filepath.Dir(d.Directory), "password"), []byte(password), 0o600))
		if receipt := targettest.Install(t, d); receipt.Outcome != certctl.OutcomeFailed || receipt.Code != "write_failed" {
			t.Errorf("%s: %+v", name, receipt)
		}
		if _, err := os.Stat(filepath.Join(d.Directory, "shop", "current")); err == nil {
			t.Errorf("%s: something is current", name)
		}
	}
}

// The policy judges where the password is read.
func TestFormatPasswordIsWhereThePolicyAllows(t *testing.T) {
	t.Parallel()
	d := startFormats(t)
	if _, err := target.Open(d.Spec, target.Env{Policy: noConfig{}}); certctl.ErrorCode(err) != certctl.Denied {
		t.Error(err)
	}
}

// noConfig is the policy of a node on which no configuration is read.
type noConfig struct{ anything }

func (noConfig) AllowConfig(string) error { return certctl.Errorf(certctl.Denied, "not this") }
