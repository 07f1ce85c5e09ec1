package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// Two servers and two agents: whatever arrives where, every holder gets one leaf
// per cycle, also when one server dies in the middle and when the bus restarts.
func TestTwoServersIssueOncePerHolder(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.addAgent("a")
	f.addAgent("b")
	second, err := f.Servers[1].API()
	f.must(err)
	const certificates = 20
	for n := range certificates {
		api := f.API
		if n%2 == 1 {
			api = second
		}
		f.must(api.Call(t.Context(), http.MethodPost, "/api/v1/certificates", map[string]any{
			"name": fmt.Sprintf("c%d", n), "dns_names": []string{fmt.Sprintf("c%d.example.com", n)}, "issuer": "local",
			"targets": []string{"files-a", "files-b"},
		}, nil))
		switch n {
		case certificates / 2:
			f.Servers[1].Kill()
			f.must(f.Servers[1].Start(t.Context()))
		case certificates * 3 / 4:
			f.NATS[0].Kill()
			f.must(f.NATS[0].Start(t.Context()))
		}
	}
	f.eventually(2*time.Minute, "all are active", func() bool { return f.count("?status=active&name=c*&limit=100") == certificates })
	for n := range certificates {
		var list struct {
			Items []struct {
				Holder string `json:"holder"`
				Origin string `json:"origin"`
			} `json:"items"`
		}
		f.must(f.API.Call(t.Context(), http.MethodGet, fmt.Sprintf("/api/v1/certificates/c%d/versions", n), nil, &list))
		holders := map[string]int{}
		for _, v := range list.Items {
			if v.Origin == "issued" {
				holders[v.Holder]++
			}
		}
		if len(holders) != 2 {
			t.Errorf("c%d has versions for %d holders", n, len(holders))
		}
		for holder, versions := range holders {
			if versions != 1 {
				t.Errorf("holder %s of c%d has %d versions", holder, n, versions)
			}
		}
	}
	f.consistent()
}

// count is how many certificates a query finds.
func (f *fleet) count(query string) int {
	f.t.Helper()
	var list struct {
		Items []struct{} `json:"items"`
	}
	f.must(f.API.Call(f.t.Context(), http.MethodGet, "/api/v1/certificates"+query, nil, &list))
	return len(list.Items)
}

func (f *fleet) eventually(limit time.Duration, what string, condition func() bool) {
	f.t.Helper()
	if await(f.t.Context(), limit, condition) {
		return
	}
	for _, server := range f.Servers {
		f.t.Logf("server: %s", server.Process().Log())
	}
	f.t.Fatalf("not within %s: %s", limit, what)
}

// await asks for a condition until it is true or the time is over.
func await(ctx context.Context, limit time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// consistent lets the product's own check look for broken promises.
func (f *fleet) consistent() {
	f.t.Helper()
	checkDatabase(f.t, f.DatabaseURL)
}

// What one server can do, the other can, alone.
func TestASecondServerAlonePutsUpWithTheLossOfTheFirst(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.addAgent("a")
	f.Servers[0].Kill()
	var err error
	f.API, err = f.Servers[1].API()
	f.must(err)
	f.must(f.API.Call(t.Context(), http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "local", "targets": []string{"files-a"},
	}, nil))
	f.eventually(time.Minute, "it is active", func() bool { return f.count("?status=active&name=shop") == 1 })
	f.must(f.Servers[0].Start(t.Context()))
	f.consistent()
}

// The roles in processes of their own: only the signer opens private keys, and
// the API serves a certificate from files.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.must(f.StartDatabase(t.Context()))
	f.must(f.StartNATS(t.Context()))
	api := f.port()
	apart := func(name, listen string, env ...string) *local.Server {
		server := &local.Server{
			Binary: filepath.Join(binaries, "certctl-server"), Dir: filepath.Join(f.Dir, name), DatabaseURL: f.DatabaseURL, Listen: listen,
			AdminKeyFile: filepath.Join(f.Dir, "admin.key"), CAFile: f.NATSFile("tls.crt"),
			Env: append(append(f.Env(), "CERTCTL_API_URL=https://"+api), env...),
		}
		f.Servers = append(f.Servers, server)
		return server
	}
	credentials := "CERTCTL_NATS_CREDENTIALS=" + filepath.Join(f.Dir, "nats", "credentials")
	signer := apart("signer", f.port(), "CERTCTL_ROLES=signer")
	signer.Debug = f.port()
	f.must(signer.Start(t.Context()))
	f.Stack.Push(signer)
	front := apart("api", api, "CERTCTL_ROLES=api,worker,scheduler", credentials, "CERTCTL_KEK_CA=/nonexistent",
		"CERTCTL_TLS_CERT="+f.NATSFile("tls.crt"), "CERTCTL_TLS_KEY="+f.NATSFile("tls.key"), "CERTCTL_CA_FINGERPRINT="+f.fingerprint(f.NATSFile("tls.crt")))
	f.must(front.Start(t.Context()))
	f.Stack.Push(front)
	f.Server = front
	var err error
	f.API, err = front.API()
	f.must(err)
	f.addAgent("a")
	f.must(f.API.Call(t.Context(), http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "local", "targets": []string{"files-a"},
	}, nil))
	f.eventually(time.Minute, "it is active", func() bool { return f.count("?status=active&name=shop") == 1 })
	f.consistent()
}

// fingerprint is the SHA-256 of a PEM file's first certificate.
func (f *fleet) fingerprint(path string) string {
	f.t.Helper()
	text, err := os.ReadFile(path)
	f.must(err)
	sum := sha256.Sum256(parsePEM(f.t, text)[0].Raw)
	return hex.EncodeToString(sum[:])
}
