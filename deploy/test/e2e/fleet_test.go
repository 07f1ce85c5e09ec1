package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// fleet is two servers on one PostgreSQL and one external NATS, with agents.
type fleet struct {
	*local.Installation // for its agents; Server and API are those of the first
	t                   *testing.T
	postgres            *local.Postgres
	nats                *local.NATS
	servers             []*local.Server
	stack               local.Stack
}

// startFleet starts database, bus and two servers, which share nothing else but
// the key-encryption keys.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, Installation: &local.Installation{Binaries: binaries, Dir: folder(t)}}
	f.stopAtEnd()
	f.startDatabase()
	f.startNATS()
	for i := range 2 {
		server := &local.Server{
			Binary: filepath.Join(binaries, "certctl-server"), Dir: filepath.Join(f.Dir, fmt.Sprintf("server%d", i)),
			DatabaseURL: f.DatabaseURL, Listen: f.port(), Env: f.env(), AdminKeyFile: filepath.Join(f.Dir, "admin.key"),
		}
		f.must(server.Start(t.Context()))
		f.stack.Push(server)
		f.servers = append(f.servers, server)
	}
	f.Server = f.servers[0]
	var err error
	f.API, err = f.Server.API()
	f.must(err)
	return f
}

// stopAtEnd ends everything with the test.
func (f *fleet) stopAtEnd() {
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), time.Minute)
		defer cancel()
		if err := f.stack.Stop(ctx); err != nil {
			f.t.Error(err)
		}
	})
}

func (f *fleet) startDatabase() {
	f.t.Helper()
	f.postgres = &local.Postgres{Databases: []string{"certctl"}, Dir: filepath.Join(f.Dir, "postgres")}
	f.must(f.postgres.Start(f.t.Context()))
	f.stack.Push(f.postgres)
	f.DatabaseURL = f.postgres.DSN("certctl")
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) port() string {
	f.t.Helper()
	port, err := local.FreePort()
	f.must(err)
	return local.Loopback(port)
}

// env is what all server processes have in common.
func (f *fleet) env() []string {
	keys := filepath.Join(f.Dir, "keys")
	return []string{
		"CERTCTL_KEK_CA=" + filepath.Join(keys, "ca.key"), "CERTCTL_KEK_SECRETS=" + filepath.Join(keys, "secrets.key"),
		"CERTCTL_KEK_PKI=" + filepath.Join(keys, "pki.key"),
		"CERTCTL_PKI_URL=http://pki.example.com", "CERTCTL_NATS_URL=tls://" + f.nats.Listen,
		"CERTCTL_NATS_CA_FILE=" + f.natsFile("tls.crt"), "CERTCTL_ADMIN_KEY_FILE=" + filepath.Join(f.Dir, "admin.key"),
		"CERTCTL_LOG_LEVEL=debug",
	}
}

func (f *fleet) natsFile(name string) string { return filepath.Join(f.Dir, "nats-tls", name) }

// startNATS lets the server's own command write what NATS needs, and starts it.
func (f *fleet) startNATS() {
	f.t.Helper()
	f.nats = &local.NATS{
		Binary: local.NATSBinary(binaries), Config: filepath.Join(f.Dir, "nats", "n1.conf"), Listen: f.port(),
	}
	f.writeNATSCertificate()
	f.must(os.MkdirAll(filepath.Join(f.Dir, "keys"), 0o700))
	init := exec.CommandContext(f.t.Context(), filepath.Join(binaries, "certctl-server"), "bus", "init", filepath.Join(f.Dir, "nats"),
		"--node", "n1="+f.nats.Listen, "--store-dir", filepath.Join(f.Dir, "nats-store"),
		"--cert-file", f.natsFile("tls.crt"), "--key-file", f.natsFile("tls.key"), "--trust-ca", f.natsFile("tls.crt"))
	init.Env = append(append(os.Environ(), f.env()...), "CERTCTL_CREATE_KEKS=true", "CERTCTL_DATABASE_URL="+f.DatabaseURL,
		"CERTCTL_DATA_DIR="+filepath.Join(f.Dir, "server0"))
	if output, err := init.CombinedOutput(); err != nil {
		f.t.Fatalf("bus init: %v\n%s", err, output)
	}
	f.must(f.nats.Start(f.t.Context()))
	f.stack.Push(f.nats)
}

// writeNATSCertificate makes a certificate for the bus that signs itself.
func (f *fleet) writeNATSCertificate() {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	f.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	f.must(err)
	f.must(os.MkdirAll(filepath.Dir(f.natsFile("x")), 0o700))
	f.must(os.WriteFile(f.natsFile("tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	f.must(os.WriteFile(f.natsFile("tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// addAgent enrols and starts an agent with a folder as its target.
func (f *fleet) addAgent(name string) *local.Agent {
	f.t.Helper()
	agent, err := f.NewAgent(name)
	f.must(err)
	f.must(f.Enrol(f.t.Context(), agent))
	f.must(agent.Start(f.t.Context()))
	f.stack.Push(agent)
	f.must(f.API.Call(f.t.Context(), http.MethodPost, "/api/v1/targets", map[string]any{
		"name": "files-" + name, "agent": name, "kind": "files", "settings": map[string]any{"directory": filepath.Join(agent.Dir, "live")},
	}, nil))
	return agent
}
