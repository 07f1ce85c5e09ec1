package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// Roles are those that a process of a [Fleet] can have, in the order in which
// they must be there.
var Roles = []string{"signer", "worker", "scheduler", "api"}

// StartApart is Start with each role in processes of its own, replicas of each.
// Only signers get the key-encryption key of the CA. Servers are the processes
// with the role api; the others are in Apart.
func (f *Fleet) StartApart(ctx context.Context, replicas int) error {
	if err := f.StartDatabase(ctx); err != nil {
		return err
	}
	if err := f.StartNATS(ctx); err != nil {
		return err
	}
	fingerprint, err := fingerprintOf(f.NATSFile("tls.crt"))
	if err != nil {
		return err
	}
	apis := make([]string, replicas)
	for n := range apis {
		if apis[n], err = loopback(); err != nil {
			return err
		}
	}
	f.Apart = map[string][]*Server{}
	for _, role := range Roles {
		for n := range replicas {
			if err := f.startRole(ctx, f.role(role, n, apis[n], fingerprint), role); err != nil {
				return err
			}
		}
	}
	f.Servers, f.Server = f.Apart["api"], f.Apart["api"][0]
	f.API, err = f.Server.API()
	return err
}

// AddApart starts one more process of a role that serves nobody.
func (f *Fleet) AddApart(ctx context.Context, role string) error {
	return f.startRole(ctx, f.role(role, len(f.Apart[role]), f.Servers[0].Listen, ""), role)
}

func (f *Fleet) startRole(ctx context.Context, server *Server, role string) (err error) {
	if server.Debug, err = loopback(); err != nil {
		return err
	}
	err = server.Start(ctx)
	if server.process != nil {
		f.Stack.Push(server)
	}
	if err == nil {
		f.Apart[role] = append(f.Apart[role], server)
	}
	return err
}

// role describes the n-th process of a role. The API serves the certificate of
// the bus, since it is no signer that could make one.
func (f *Fleet) role(role string, n int, api, fingerprint string) *Server {
	server := &Server{
		Binary: filepath.Join(f.Binaries, "certctl-server"), Dir: filepath.Join(f.Dir, fmt.Sprintf("%s%d", role, n)),
		DatabaseURL: f.serverDatabaseURL(), Listen: api, AdminKeyFile: filepath.Join(f.Dir, "admin.key"), CAFile: f.NATSFile("tls.crt"),
		Env: append(f.Env(), "CERTCTL_ROLES="+role, "CERTCTL_API_URL=https://"+api),
	}
	if role != "signer" {
		server.Env = append(server.Env, "CERTCTL_KEK_CA=/nonexistent", "CERTCTL_NATS_CREDENTIALS="+f.Credentials())
	}
	if role == "api" {
		server.Env = append(server.Env, "CERTCTL_TLS_CERT="+f.NATSFile("tls.crt"), "CERTCTL_TLS_KEY="+f.NATSFile("tls.key"),
			"CERTCTL_CA_FINGERPRINT="+fingerprint)
	}
	server.Env = append(server.Env, f.ServerEnv...)
	return server
}

// Restart starts a process of a role again that has ended.
func (f *Fleet) Restart(ctx context.Context, role string, n int) error {
	return f.Apart[role][n].Start(ctx)
}

// Credentials is the folder with the credentials of the platform's roles, as bus
// init has written it.
func (f *Fleet) Credentials() string { return filepath.Join(f.Dir, "nats", "credentials") }

// fingerprintOf is the SHA-256 of a PEM file's first certificate.
func fingerprintOf(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("%s holds no certificate", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}
