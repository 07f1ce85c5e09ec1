package local_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

// newNginx is an nginx with one plain server that answers with a word.
func newNginx(t *testing.T, word string) *local.Nginx {
	t.Helper()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	nginx := &local.Nginx{
		Config: local.NginxConfig(dir, filepath.Join(dir, "tls", "*", "current", "*.conf")),
		Dir:    dir,
		Listen: local.Loopback(port),
	}
	writeServer(t, nginx, word)
	return nginx
}

func writeServer(t *testing.T, nginx *local.Nginx, word string) {
	t.Helper()
	folder := filepath.Join(nginx.Dir, "tls", "demo", "current")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	server := fmt.Sprintf("server {\n    listen %s;\n    return 200 %q;\n}\n", nginx.Listen, word)
	if err := os.WriteFile(filepath.Join(folder, "server.conf"), []byte(server), 0o600); err != nil {
		t.Fatal(err)
	}
}

// served is what the server answers on a new connection.
func served(ctx context.Context, t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestNginxServesAndReloads(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	nginx := newNginx(t, "first")
	if err := nginx.Start(ctx); err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, nginx)
	if word := served(ctx, t, nginx.Listen); word != "first" {
		t.Fatalf("served %q", word)
	}

	writeServer(t, nginx, "second")
	if err := nginx.Reload(); err != nil {
		t.Fatal(err)
	}
	for served(ctx, t, nginx.Listen) != "second" {
		if ctx.Err() != nil {
			t.Fatal("the new configuration is never served")
		}
	}
}

func TestNginxStartsAgainOnItsPortAfterAKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	nginx := newNginx(t, "here")
	for range 3 {
		if err := nginx.Start(ctx); err != nil {
			t.Fatal(err)
		}
		nginx.Kill()
	}
}

func TestNginxStartsWithoutAnyServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nginx := &local.Nginx{Config: local.NginxConfig(dir, filepath.Join(dir, "tls", "*.conf")), Dir: dir}
	if err := nginx.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := nginx.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNginxReportsWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	nginx := &local.Nginx{Config: "sever {}\n", Dir: t.TempDir()}
	if err := nginx.Start(t.Context()); err == nil {
		nginx.Kill()
		t.Fatal("a broken configuration is accepted")
	} else if want := `unknown directive "sever"`; !strings.Contains(err.Error(), want) {
		t.Errorf("the error lacks %q: %v", want, err)
	}
}
