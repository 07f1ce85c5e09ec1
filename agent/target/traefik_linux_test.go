package target_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"go.yaml.in/yaml/v3"
)

// fileProvider is a TLS server that does as Traefik's file provider: it watches a
// folder, reads all of its documents when anything changes there, and keeps what it
// has when they cannot be read. It is not Traefik.
type fileProvider struct {
	t       *testing.T
	folder  string
	broken  atomic.Bool
	unread  atomic.Pointer[error] // the last thing that could not be read
	serving atomic.Pointer[served]
}

type served struct {
	byName map[string]*tls.Certificate
	other  *tls.Certificate // for all other names
}

// dynamic is Traefik's dynamic configuration as far as it is about certificates, by
// its documentation; other fields are refused.
type dynamic struct {
	TLS struct {
		Certificates []pemPair `yaml:"certificates"`
		Stores       map[string]struct {
			DefaultCertificate *pemPair `yaml:"defaultCertificate"`
		} `yaml:"stores"`
	} `yaml:"tls"`
}

type pemPair struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// read reads all documents, as at a start or a change.
func (f *fileProvider) read() error {
	own, err := tls.LoadX509KeyPair(filepath.Join(f.folder, "..", "own.crt"), filepath.Join(f.folder, "..", "own.key"))
	if err != nil {
		return err
	}
	now := &served{byName: map[string]*tls.Certificate{}, other: &own}
	paths, err := filepath.Glob(filepath.Join(f.folder, "*.yml"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // taken away meanwhile, which is another change
		}
		var document dynamic
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		decoder.KnownFields(true)
		if err := decoder.Decode(&document); err != nil {
			return err
		}
		for _, files := range document.TLS.Certificates {
			pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
			if err != nil {
				return err
			}
			for _, name := range pair.Leaf.DNSNames {
				now.byName[name] = &pair
			}
		}
		if store, ok := document.TLS.Stores["default"]; ok {
			pair, err := tls.LoadX509KeyPair(store.DefaultCertificate.CertFile, store.DefaultCertificate.KeyFile)
			if err != nil {
				return err
			}
			now.other = &pair
		}
	}
	f.serving.Store(now)
	return nil
}

// watch reads at each change, until the test ends.
func (f *fileProvider) watch() {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	must(f.t, err)
	_, err = syscall.InotifyAddWatch(fd, f.folder, syscall.IN_CREATE|syscall.IN_MOVED_TO|syscall.IN_MOVED_FROM|syscall.IN_DELETE|syscall.IN_CLOSE_WRITE)
	must(f.t, err)
	events := os.NewFile(uintptr(fd), "inotify")
	done := make(chan struct{})
	f.t.Cleanup(func() {
		_ = events.Close()
		<-done
	})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			if f.broken.Load() {
				continue
			}
			if err := f.read(); err != nil {
				f.unread.Store(&err)
			}
		}
	}()
}

func (f *fileProvider) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := f.serving.Load()
	if c := now.byName[hello.ServerName]; c != nil {
		return c, nil
	}
	return now.other, nil
}

func (f *fileProvider) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn) // which shakes hands
			_ = conn.Close()
		}()
	}
}

// startFileProvider starts it with a target whose default place is "front".
func startFileProvider(t *testing.T) *targettest.Daemon {
	t.Helper()
	_, d := newFileProvider(t)
	return d
}

func newFileProvider(t *testing.T) (*fileProvider, *targettest.Daemon) {
	t.Helper()
	dir := t.TempDir()
	f := &fileProvider{t: t, folder: filepath.Join(dir, "documents")}
	must(t, os.Mkdir(f.folder, 0o700))
	targettest.WritePair(t, filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key"), "traefik.default")
	must(t, f.read())
	f.watch()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: f.choose, MinVersion: tls.VersionTLS12})
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go f.serve(listener)
	directory := filepath.Join(dir, "tls")
	return f, &targettest.Daemon{
		Spec: spec(t, "traefik", map[string]any{
			"directory": directory, "documents": f.folder, "default_place": "front", "listen": []string{listener.Addr().String()},
		}),
		// What it cannot read it does not load, and there is no complaint of its own.
		Directory: directory, Policy: anything{}, Address: listener.Addr().String(),
		Break: func() { f.broken.Store(true) },
		Repair: func() {
			f.broken.Store(false)
			must(t, f.read())
		},
	}
}

func TestTraefikFileProvider(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startFileProvider)
}

// The default place's certificate is served for every other name; its document and
// the others are all that is in the folder. None ever names files that are not there,
// or halves of two generations.
func TestTraefikDocuments(t *testing.T) {
	t.Parallel()
	f, d := newFileProvider(t)
	opened, err := target.Kinds().Open(d.Spec, target.Env{Policy: d.Policy, Now: time.Now, StateDir: t.TempDir()})
	must(t, err)
	nextFront, nextShop := targettest.Installs(t, "front", "front.example.com"), targettest.Installs(t, "shop", "shop.example.com")
	var front target.Install
	for range 5 {
		front = nextFront()
		for _, r := range opened.Apply(t.Context(), []target.Install{front, nextShop()}) {
			if r.Outcome != certctl.OutcomeVerified {
				t.Fatalf("receipt %+v", r)
			}
		}
	}
	if err := f.unread.Load(); err != nil {
		t.Errorf("a document could not be read: %v", *err)
	}
	other, err := probe.TLS(t.Context(), d.Address, "unknown.example.com")
	if err != nil || other.Fingerprint != front.Command.Fingerprint {
		t.Errorf("for another name %s is served: %v", other.Fingerprint, err)
	}
	documents := filepath.Join(filepath.Dir(d.Directory), "documents")
	entries, err := os.ReadDir(documents)
	if err != nil || len(entries) != 2 {
		t.Errorf("documents %v, %v", entries, err)
	}
	for name, isDefault := range map[string]bool{"front": true, "shop": false} {
		content, err := os.ReadFile(filepath.Join(documents, name+".yml"))
		must(t, err)
		if strings.Contains(string(content), "defaultCertificate") != isDefault || !strings.Contains(string(content), "/"+name+"/generations/5/privkey.pem") {
			t.Errorf("%s: %s", name, content)
		}
	}
}

func TestTraefikSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"documents among the places": `{"directory": "/srv/tls", "documents": "/srv/tls/documents", "listen": []}`,
		"places among the documents": `{"directory": "/srv/documents/tls", "documents": "/srv/documents", "listen": []}`,
		"no documents":               `{"directory": "/srv/tls", "listen": []}`,
		"a template":                 `{"directory": "/srv/{{env}}", "documents": "/srv/documents", "listen": []}`,
		"a default place elsewhere":  `{"directory": "/srv/tls", "documents": "/srv/documents", "listen": [], "default_place": "../x"}`,
		"an open key":                `{"directory": "/srv/tls", "documents": "/srv/documents", "listen": [], "key_mode": "0644"}`,
	} {
		if err := target.Validate("traefik", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("traefik", []byte(`{"directory": "/srv/tls", "documents": "/srv/documents", "listen": ["127.0.0.1:443"]}`)))
}
