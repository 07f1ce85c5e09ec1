package discover_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/agent/discover"
	"github.com/certctl/certctl/deploy/local"
)

// chained writes a leaf, its key and, in a file of its own, the intermediate that
// signed it.
func chained(t *testing.T, dir, name string) (leaf, key, chain string) {
	t.Helper()
	root, rootKey := signed(t, nil, nil, "root")
	between, betweenKey := signed(t, root, rootKey, "intermediate")
	own, ownKey := signed(t, between, betweenKey, name)
	encoded, err := x509.MarshalPKCS8PrivateKey(ownKey)
	must(t, err)
	leaf, key, chain = filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "leaf.key"), filepath.Join(dir, "chain.pem")
	must(t, os.WriteFile(leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	must(t, os.WriteFile(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between.Raw}), 0o600))
	return leaf, key, chain
}

// signed is a certificate of an issuer, or of its own.
func signed(t *testing.T, issuer *x509.Certificate, issuerKey crypto.Signer, name string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: name == "root" || name == "intermediate", BasicConstraintsValid: true,
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c, key
}

// sent counts the certificates that a listener sends.
func sent(t *testing.T, address, name string) int {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // how many is all that is asked
	must(t, err)
	defer conn.Close()
	return len(conn.ConnectionState().PeerCertificates)
}

// The chain that Apache has in a file of its own becomes part of the first
// generation: clients get it also once the line that names it is gone.
func TestApacheChainFileIsSeeded(t *testing.T) {
	t.Parallel()
	binary, err := local.FindApache()
	must(t, err)
	for name, site := range map[string]string{
		"of the virtual host": "<VirtualHost %[1]s>\n SSLCertificateChainFile %[4]s\n",
		"of the server":       "SSLCertificateChainFile %[4]s\n<VirtualHost %[1]s>\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, at := t.TempDir(), addresses(t, 1)[0]
			leaf, key, chain := chained(t, dir, "shop.example.com")
			write(t, filepath.Join(dir, "sites", "shop.conf"), fmt.Sprintf(site+` ServerName shop.example.com
 SSLEngine on
 SSLCertificateFile %[2]s
 SSLCertificateKeyFile %[3]s
</VirtualHost>
`, at, leaf, key, chain))
			apache := &local.Apache{Dir: dir, Listen: at, Include: filepath.Join(dir, "sites", "*.conf")}
			must(t, apache.Start(t.Context()))
			t.Cleanup(apache.Kill)
			if n := sent(t, at, "shop.example.com"); n != 2 {
				t.Fatalf("Apache sends %d certificates", n)
			}
			p, err := discover.Inspect(t.Context(), "apache", "web1", discover.Options{
				Config: apache.ConfigFile(), Binary: binary, PIDFile: apache.PIDFile(), Directory: filepath.Join(dir, "tls"),
			})
			must(t, err)
			if len(p.Targets) != 1 || len(p.Problems) > 0 || p.Targets[0].Places[0].Chain != chain {
				t.Fatalf("proposal %+v", p)
			}
			seed(t, p)
			apply(t, p.Changes)
			must(t, os.Remove(leaf))
			apache.Kill()
			again := &local.Apache{Dir: dir, Listen: at, Include: filepath.Join(dir, "sites", "*.conf")}
			must(t, again.Start(t.Context()))
			t.Cleanup(again.Kill)
			if n := sent(t, at, "shop.example.com"); n != 2 {
				t.Errorf("Apache sends %d certificates afterwards", n)
			}
		})
	}
}
