package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// virtualHost is what the target renders for each place.
const virtualHost = `<VirtualHost %s>
    ServerName {{index .Names 0}}
    SSLEngine on
    SSLCertificateFile {{.Fullchain}}
    SSLCertificateKeyFile {{.Key}}
</VirtualHost>
`

// startApache starts a real Apache whose virtual hosts the target renders.
func startApache(t *testing.T) *targettest.Daemon {
	t.Helper()
	binary, err := local.FindApache()
	must(t, err)
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address, directory := local.Loopback(port), filepath.Join(dir, "tls")
	apache := &local.Apache{Dir: dir, Listen: address, Include: filepath.Join(directory, "*", "current", "*.conf")}
	must(t, apache.Start(t.Context()))
	t.Cleanup(apache.Kill)
	good, err := os.ReadFile(apache.ConfigFile())
	must(t, err)
	return &targettest.Daemon{
		Spec: spec(t, "apache", map[string]any{
			"directory": directory, "config": apache.ConfigFile(), "binary": binary, "pid_file": apache.PIDFile(),
			"listen": []string{address}, "virtual_host": fmt.Sprintf(virtualHost, address),
		}),
		Directory: directory, Policy: anything{}, Address: address, Complaint: "NoSuchDirective", Fragile: true,
		Break:  func() { must(t, os.WriteFile(apache.ConfigFile(), append(good, "NoSuchDirective on\n"...), 0o600)) },
		Repair: func() { must(t, os.WriteFile(apache.ConfigFile(), good, 0o600)) },
	}
}

func TestApache(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startApache)
}
