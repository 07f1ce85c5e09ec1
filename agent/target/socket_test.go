package target_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// AllowSocket lets every socket be.
func (anything) AllowSocket(string) error { return nil }

// AllowSocketUser lets everybody.
func (anything) AllowSocketUser(string) error { return nil }

// asker asks an agent's socket, as curl --unix-socket would.
func asker(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

// handed is what a program reads of an answer.
type handed struct {
	Name, Fingerprint, Tag, Fullchain, Key, Detail, Remedy string
	DNSNames                                               []string  `json:"dns_names"`
	NotAfter                                               time.Time `json:"not_after"`
}

// call returns an answer's status and what is in it.
func call(ctx context.Context, client *http.Client, method, path, tag string, body any) (status int, got handed, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return 0, got, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(encoded))
	if err != nil {
		return 0, got, err
	}
	if tag != "" {
		request.Header.Set("If-None-Match", `"`+tag+`"`)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, got, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && len(content) > 0 && response.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		err = json.Unmarshal(content, &got)
	}
	return response.StatusCode, got, err
}

// program serves TLS with what it gets from the agent, and says what it thinks of it.
type program struct {
	client   *http.Client
	listener net.Listener

	mu           sync.Mutex // guards all below
	certificates map[string]*tls.Certificate
	refuses      bool
}

// programNames are those of the places of the suite.
var programNames = []string{"shop", "a", "b", "c", "d", "e"}

const programSays = "this program likes no certificates today"

func startProgram(t *testing.T, socket string) *program {
	t.Helper()
	dir := t.TempDir()
	targettest.WritePair(t, filepath.Join(dir, "cert"), filepath.Join(dir, "key"), "program.example.com")
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	must(t, err)
	p := &program{client: asker(socket), certificates: map[string]*tls.Certificate{"": &own}}
	p.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.choose})
	must(t, err)
	t.Cleanup(func() { _ = p.listener.Close() })
	go p.shakeHands()
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { stop(); group.Wait() })
	for _, name := range programNames {
		group.Go(func() { p.follow(ctx, name) })
	}
	return p
}

func (p *program) shakeHands() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if secured, ok := conn.(*tls.Conn); ok {
				_ = secured.HandshakeContext(context.Background()) // the other side looks at its outcome
			}
		}()
	}
}

func (p *program) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range programNames {
		if have := p.certificates[name]; have != nil && have.Leaf.VerifyHostname(hello.ServerName) == nil {
			return have, nil
		}
	}
	return p.certificates[""], nil
}

// follow loads one certificate after the other, as they come. While there is no agent
// it looks for one now and then, as a program would.
func (p *program) follow(ctx context.Context, name string) {
	path := "/v1/certificates/" + name
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for tag := ""; ctx.Err() == nil; {
		status, got, err := call(ctx, p.client, http.MethodGet, path+"?wait=30", tag, nil)
		if err != nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			continue
		}
		if status == http.StatusNotFound {
			tag = ""
		}
		if status != http.StatusOK {
			continue // nothing new
		}
		report := map[string]string{"tag": got.Tag}
		if err := p.load(name, got); err != nil {
			report["error"] = err.Error()
		}
		tag = got.Tag
		_, _, _ = call(ctx, p.client, http.MethodPost, path+"/report", "", report) // what is not current any more is got once more
	}
}

func (p *program) load(name string, got handed) error {
	pair, err := tls.X509KeyPair([]byte(got.Fullchain), []byte(got.Key))
	if err != nil {
		return err
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses {
		return errors.New(programSays)
	}
	p.certificates[name] = &pair
	return nil
}

func (p *program) refuse(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = is
}

func socketSettings(dir string) map[string]any {
	return map[string]any{"directory": filepath.Join(dir, "tls"), "socket": filepath.Join(dir, "socket"), "wait_seconds": 0}
}

// openSocket opens a target as the agent does, and closes it with the test.
func openSocket(t *testing.T, settings map[string]any, bound ...target.Place) servedTarget {
	t.Helper()
	opened, err := target.Kinds().Open(spec(t, "socket", settings), target.Env{Policy: anything{}, Now: time.Now, StateDir: t.TempDir()})
	must(t, err)
	served, ok := opened.(servedTarget)
	if !ok {
		t.Fatalf("it is a %T", opened)
	}
	t.Cleanup(func() { must(t, served.Close()) })
	served.Bind(func() []target.Place { return bound })
	return served
}

// servedTarget is all that such a target can do.
type servedTarget interface {
	target.Opened
	target.Binder
	Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep
}

// sockets are the entries beside the directory of a target: its socket, with the lock.
func sockets(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, entry := range entries {
		if entry.Name() != "tls" {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestSocket(t *testing.T) {
	t.Parallel()
	targettest.Run(t, func(t *testing.T) *targettest.Daemon {
		t.Helper()
		dir := shortDir(t)
		settings := socketSettings(dir)
		p := startProgram(t, filepath.Join(dir, "socket"))
		settings["listen"], settings["wait_seconds"] = []string{p.listener.Addr().String()}, 60
		return &targettest.Daemon{
			Spec: spec(t, "socket", settings), Directory: filepath.Join(dir, "tls"), Policy: anything{}, Hands: true,
			Address: p.listener.Addr().String(), Complaint: programSays,
			Break: func() { p.refuse(true) }, Repair: func() { p.refuse(false) },
		}
	})
}
