package local

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Fleet is certctl with its parts apart: any number of servers on one PostgreSQL
// and one external NATS or cluster of them, with agents whose targets are
// folders. Its methods belong to one goroutine.
type Fleet struct {
	*Installation // for its agents; Server and API are those of the first server

	// Nodes is the number of NATS servers; 0 is one.
	Nodes int
	// Proxied puts a [Proxy] before database and bus.
	Proxied bool

	// PostgresSettings are added to the database's own.
	PostgresSettings map[string]string

	// Apart are the processes by role, where each has one: see [Fleet.StartApart].
	Apart map[string][]*Server

	Database      *Postgres
	NATS          []*NATS
	Servers       []*Server
	Agents        []*Agent
	DatabaseProxy *Proxy
	NATSProxies   []*Proxy // by node
	Stack         Stack
}

const fleetDatabase = "certctl"

// Start starts database, bus and servers, which share nothing else but the
// key-encryption keys.
func (f *Fleet) Start(ctx context.Context, servers int) error {
	if err := f.StartDatabase(ctx); err != nil {
		return err
	}
	if err := f.StartNATS(ctx); err != nil {
		return err
	}
	for n := range servers {
		if err := f.AddServer(ctx, fmt.Sprintf("server%d", n)); err != nil {
			return err
		}
	}
	return nil
}

// StartDatabase starts PostgreSQL.
func (f *Fleet) StartDatabase(ctx context.Context) error {
	f.Database = &Postgres{
		Databases: []string{fleetDatabase}, Dir: filepath.Join(f.Dir, "postgres"), Durable: f.Durable, Settings: f.PostgresSettings,
	}
	if err := f.Database.Start(ctx); err != nil {
		return err
	}
	f.Stack.Push(f.Database)
	f.DatabaseURL = f.Database.DSN(fleetDatabase)
	if !f.Proxied {
		return nil
	}
	dir := filepath.Join(f.Dir, "db")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f.DatabaseProxy = &Proxy{
		Network: "unix", Listen: filepath.Join(dir, ".s.PGSQL."+postgresPort),
		Target: filepath.Join(f.Database.home.socket, ".s.PGSQL."+postgresPort),
	}
	if err := f.DatabaseProxy.Start(ctx); err != nil {
		return err
	}
	f.Stack.Push(f.DatabaseProxy)
	return nil
}

// serverDatabaseURL is the database as servers reach it.
func (f *Fleet) serverDatabaseURL() string {
	if f.DatabaseProxy == nil {
		return f.DatabaseURL
	}
	return "postgres://" + postgresSuperuser + "@/" + fleetDatabase + "?sslmode=disable&port=" + postgresPort + "&host=" + filepath.Join(f.Dir, "db")
}

// AddServer starts one more server with all roles but bus.
func (f *Fleet) AddServer(ctx context.Context, name string) error {
	address, err := loopback()
	if err != nil {
		return err
	}
	server := &Server{
		Binary: filepath.Join(f.Binaries, "certctl-server"), Dir: filepath.Join(f.Dir, name), DatabaseURL: f.serverDatabaseURL(),
		Listen: address, Env: append(f.Env(), f.ServerEnv...), AdminKeyFile: filepath.Join(f.Dir, "admin.key"),
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	f.Stack.Push(server)
	f.Servers = append(f.Servers, server)
	if f.Server != nil {
		return nil
	}
	f.Server = server
	f.API, err = server.API()
	return err
}

// Env is what all server processes have in common.
func (f *Fleet) Env() []string {
	keys := filepath.Join(f.Dir, "keys")
	var urls []string
	for _, node := range f.busAddresses() {
		urls = append(urls, "tls://"+node)
	}
	env := []string{
		"CERTCTL_KEK_CA=" + filepath.Join(keys, "ca.key"), "CERTCTL_KEK_SECRETS=" + filepath.Join(keys, "secrets.key"),
		"CERTCTL_KEK_PKI=" + filepath.Join(keys, "pki.key"), "CERTCTL_PKI_URL=http://pki.example.com",
		"CERTCTL_NATS_URL=" + strings.Join(urls, ","), "CERTCTL_NATS_CA_FILE=" + f.NATSFile("tls.crt"),
		"CERTCTL_ADMIN_KEY_FILE=" + filepath.Join(f.Dir, "admin.key"), "CERTCTL_LOG_LEVEL=debug",
	}
	if f.Nodes > 1 {
		env = append(env, fmt.Sprintf("CERTCTL_NATS_REPLICAS=%d", f.Nodes))
	}
	return env
}

func (f *Fleet) busAddresses() []string {
	var all []string
	for i, nats := range f.NATS {
		if f.Proxied {
			all = append(all, f.NATSProxies[i].Listen)
			continue
		}
		all = append(all, nats.Listen)
	}
	return all
}

// NATSFile is the path of the bus's TLS certificate (tls.crt) or key (tls.key).
func (f *Fleet) NATSFile(name string) string { return filepath.Join(f.Dir, "nats-tls", name) }

// NATSStore is the folder of a node's streams.
func (f *Fleet) NATSStore(node int) string {
	return filepath.Join(f.Dir, fmt.Sprintf("nats-store-%d", node+1))
}

// StartNATS lets the server's own command write what NATS needs, and starts it.
func (f *Fleet) StartNATS(ctx context.Context) error {
	nodes := max(f.Nodes, 1)
	args := []string{"bus", "init", filepath.Join(f.Dir, "nats"), "--store-dir", f.NATSStore(0),
		"--cert-file", f.NATSFile("tls.crt"), "--key-file", f.NATSFile("tls.key"), "--trust-ca", f.NATSFile("tls.crt")}
	for n := range nodes {
		node, err := f.describeNode(ctx, n, nodes)
		if err != nil {
			return err
		}
		args = append(args, "--node", node)
	}
	if err := f.writeNATSCertificate(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(f.Dir, "keys"), 0o700); err != nil {
		return err
	}
	init := exec.CommandContext(ctx, filepath.Join(f.Binaries, "certctl-server"), args...)
	init.Env = append(append(os.Environ(), f.Env()...), "CERTCTL_CREATE_KEKS=true", "CERTCTL_DATABASE_URL="+f.DatabaseURL,
		"CERTCTL_DATA_DIR="+filepath.Join(f.Dir, "server0"))
	if output, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("bus init: %w: %s", err, output)
	}
	for n := range f.NATS {
		if err := f.startNode(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// describeNode chooses a node's addresses and returns it as bus init takes it.
func (f *Fleet) describeNode(ctx context.Context, n, nodes int) (string, error) {
	name := fmt.Sprintf("n%d", n+1)
	address, err := loopback()
	if err != nil {
		return "", err
	}
	f.NATS = append(f.NATS, &NATS{Binary: NATSBinary(f.Binaries), Config: filepath.Join(f.Dir, "nats", name+".conf"), Listen: address})
	if f.Proxied {
		front, err := loopback()
		if err != nil {
			return "", err
		}
		proxy := &Proxy{Network: "tcp", Listen: front, Target: address}
		if err := proxy.Start(ctx); err != nil {
			return "", err
		}
		f.Stack.Push(proxy)
		f.NATSProxies = append(f.NATSProxies, proxy)
	}
	if nodes == 1 {
		return name + "=" + address, nil
	}
	route, err := loopback()
	return fmt.Sprintf("%s=%s,route=%s,zone=z%d", name, address, route, n+1), err
}

// storeDir is the line of a configuration that names the streams' folder: on one
// machine, each node needs one of its own.
var storeDir = regexp.MustCompile(`(?m)^(\s*store_dir\s*:?\s*)\S+$`)

func (f *Fleet) startNode(ctx context.Context, n int) error {
	if n > 0 {
		text, err := os.ReadFile(f.NATS[n].Config)
		if err != nil {
			return err
		}
		changed := storeDir.ReplaceAll(text, []byte(`${1}"`+f.NATSStore(n)+`"`))
		if string(changed) == string(text) {
			return errors.New("the configuration of NATS names no store_dir")
		}
		if err := os.WriteFile(f.NATS[n].Config, changed, 0o600); err != nil {
			return err
		}
	}
	if err := f.NATS[n].Start(ctx); err != nil {
		return err
	}
	f.Stack.Push(f.NATS[n])
	return nil
}

// writeNATSCertificate makes a certificate for the bus that signs itself.
func (f *Fleet) writeNATSCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nats"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(filepath.Dir(f.NATSFile("x")), 0o700),
		os.WriteFile(f.NATSFile("tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(f.NATSFile("tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}

// AddAgent enrols and starts an agent with a folder as its target, named
// files-<name>.
func (f *Fleet) AddAgent(ctx context.Context, name string) (*Agent, error) {
	agent, err := f.NewAgent(name)
	if err != nil {
		return nil, err
	}
	if err := f.Enrol(ctx, agent); err != nil {
		return nil, err
	}
	if err := agent.Start(ctx); err != nil {
		return nil, err
	}
	f.Stack.Push(agent)
	f.Agents = append(f.Agents, agent)
	return agent, f.API.Call(ctx, http.MethodPost, "/api/v1/targets", map[string]any{
		"name": "files-" + name, "agent": name, "kind": "files", "settings": map[string]any{"directory": filepath.Join(agent.Dir, "live")},
	}, nil)
}

func loopback() (string, error) {
	port, err := FreePort()
	return Loopback(port), err
}
