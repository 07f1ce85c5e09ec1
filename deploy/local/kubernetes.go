package local

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Kubernetes is an API server of Kubernetes with an etcd, and no nodes: it stores
// and judges objects, and runs none. Its fields are read by Start.
type Kubernetes struct {
	// Program is the path of kube-apiserver.
	Program string
	// Dir is a folder for the store, the keys and the logs.
	Dir string

	url           string
	store, server *Process
}

// KubernetesAdmin is the token of somebody who may do everything.
const KubernetesAdmin = "an-admin-of-a-test"

// URL is its address.
func (k *Kubernetes) URL() string { return k.url }

// CAFile is the path of the certificate that it is known by.
func (k *Kubernetes) CAFile() string { return filepath.Join(k.Dir, "certs", "apiserver.crt") }

// Kill ends both.
func (k *Kubernetes) Kill() {
	for _, process := range []*Process{k.server, k.store} {
		if process != nil {
			process.Kill()
		}
	}
}

// Start starts both and returns when the API server is ready.
func (k *Kubernetes) Start(ctx context.Context) error {
	var addresses [3]string
	for i := range addresses {
		port, err := FreePort()
		if err != nil {
			return err
		}
		addresses[i] = Loopback(port)
	}
	k.url = "https://" + addresses[2]
	if err := k.prepare(); err != nil {
		return fmt.Errorf("prepare Kubernetes: %w", err)
	}
	if err := k.startStore("http://"+addresses[0], "http://"+addresses[1]); err != nil {
		return err
	}
	host, port, _ := strings.Cut(addresses[2], ":")
	var err error
	k.server, err = startReady(ctx, Command{
		Args: []string{
			k.Program, "--etcd-servers=http://" + addresses[0], "--bind-address=" + host, "--advertise-address=" + host, "--secure-port=" + port,
			"--cert-dir=" + filepath.Dir(k.CAFile()), "--service-account-issuer=https://test", "--service-cluster-ip-range=10.0.0.0/24",
			"--service-account-key-file=" + k.accountKey(), "--service-account-signing-key-file=" + k.accountKey(),
			"--authorization-mode=RBAC", "--token-auth-file=" + k.tokens(), "--endpoint-reconciler-type=none",
		},
		LogFile: filepath.Join(k.Dir, "kube-apiserver.log"), Name: "kube-apiserver",
	}, k.ready)
	if err != nil {
		k.store.Kill()
	}
	return err
}

func (k *Kubernetes) startStore(client, peer string) error {
	program, err := FindEtcd()
	if err != nil {
		return err
	}
	k.store, err = Start(Command{
		Args: []string{
			program, "--data-dir", filepath.Join(k.Dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--unsafe-no-fsync",
		},
		LogFile: filepath.Join(k.Dir, "etcd.log"), Name: "etcd",
	})
	return err
}

func (k *Kubernetes) accountKey() string { return filepath.Join(k.Dir, "accounts.key") }
func (k *Kubernetes) tokens() string     { return filepath.Join(k.Dir, "tokens.csv") }

// prepare writes the key that signs the tokens of accounts, and the admin's token.
func (k *Kubernetes) prepare() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return errors.Join(os.WriteFile(k.accountKey(), encoded, 0o600),
		os.WriteFile(k.tokens(), []byte(KubernetesAdmin+",admin,admin,system:masters\n"), 0o600))
}

func (k *Kubernetes) ready(ctx context.Context) error {
	root, err := os.ReadFile(k.CAFile())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url+"/readyz", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+KubernetesAdmin)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() // the status says it all
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

// FindEtcd returns the path of etcd.
func FindEtcd() (string, error) { return findDaemon("etcd", "etcd-server") }
