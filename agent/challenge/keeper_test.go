package challenge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

const thumbprint = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"

// proof is one with a token of its own.
func proof(kind, name, token string) certctl.Proof {
	token = "0123456789abcdef-" + token
	return certctl.Proof{Type: kind, Identifier: name, Token: token, Answer: token + "." + thumbprint}
}

// address is a free one.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func keeper(t *testing.T, places Places) *Keeper {
	t.Helper()
	k := NewKeeper(places)
	t.Cleanup(k.Close)
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// asks sends a request and returns the status and the body.
func asks(t *testing.T, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(body)
}

func TestItListensOnlyWhileThereIsAProof(t *testing.T) {
	t.Parallel()
	at := address(t)
	k := keeper(t, Places{HTTP: at})
	if listens(at) {
		t.Error("it listens for nothing")
	}
	one, two := proof("http-01", "a.example.com", "one"), proof("http-01", "b.example.com", "two")
	must(t, k.Hold(certctl.ID{1}, []certctl.Proof{one}))
	must(t, k.Hold(certctl.ID{2}, []certctl.Proof{two, one}))
	base := "http://" + at
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/.well-known/acme-challenge/" + one.Token, 200, one.Answer},
		{"HEAD", "/.well-known/acme-challenge/" + two.Token, 200, ""},
		{"POST", "/.well-known/acme-challenge/" + two.Token, 405, "use GET\n"},
		{"GET", "/.well-known/acme-challenge/", 404, "404 page not found\n"},
		{"GET", "/.well-known/acme-challenge/other", 404, "404 page not found\n"},
		{"GET", "/.well-known/acme-challenge/../../etc/passwd", 404, "404 page not found\n"},
		{"GET", "/", 404, "404 page not found\n"},
	} {
		if status, body := asks(t, c.method, base+c.path); status != c.status || body != c.body {
			t.Errorf("%s %s: %d %q", c.method, c.path, status, body)
		}
	}
	must(t, k.Drop(certctl.ID{2}, []certctl.Proof{two, one}, nil))
	if status, _ := asks(t, "GET", base+"/.well-known/acme-challenge/"+one.Token); status != 200 {
		t.Error("what another set holds, too, is gone")
	}
	if status, _ := asks(t, "GET", base+"/.well-known/acme-challenge/"+two.Token); status != 404 {
		t.Error("what was dropped is answered")
	}
	must(t, k.Drop(certctl.ID{1}, []certctl.Proof{one}, nil))
	if listens(at) {
		t.Error("it listens for nothing any more")
	}
}

// A stranger who sends too much, or nothing, is rid of soon and takes nobody's place.
func TestStrangersTakeNothingFromTheNode(t *testing.T) {
	t.Parallel()
	at := address(t)
	k := keeper(t, Places{HTTP: at})
	one := proof("http-01", "a.example.com", "one")
	must(t, k.Hold(certctl.ID{1}, []certctl.Proof{one}))
	conn, err := net.Dial("tcp", at)
	must(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if err == nil {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, "431") && line != "" {
			t.Errorf("answered with %q", line)
		}
	}
	for range 2 * maxConnections { // each gives its room back
		if status, _ := asks(t, "GET", "http://"+at+"/.well-known/acme-challenge/"+one.Token); status != 200 {
			t.Fatal(status)
		}
	}
}

func TestAnAddressThatIsTakenIsARefusalWithARemedy(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	root := t.TempDir()
	k := keeper(t, Places{HTTP: taken.Addr().String(), Webroots: []string{root}})
	err = k.Hold(certctl.ID{1}, []certctl.Proof{proof("http-01", "a.example.com", "one")})
	if certctl.ErrorCode(err) != certctl.Unavailable || !strings.Contains(certctl.ErrorMessage(err), "address already in use") {
		t.Errorf("got %v", err)
	}
	if left := files(t, root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// files are the names below a webroot's folder for proofs.
func files(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestFilesForAWebServer(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	k := keeper(t, Places{Webroots: []string{first, second}})
	one := proof("http-01", "a.example.com", "one")
	must(t, k.Hold(certctl.ID{1}, []certctl.Proof{one}))
	must(t, k.Hold(certctl.ID{2}, []certctl.Proof{one}))
	for _, root := range []string{first, second} {
		path := filepath.Join(root, folder, one.Token)
		content, err := os.ReadFile(path)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		if string(content) != one.Answer || info.Mode().Perm() != 0o644 || len(files(t, root)) != 1 {
			t.Errorf("%s: %q, %s, %v", path, content, info.Mode(), files(t, root))
		}
	}
	must(t, k.Drop(certctl.ID{1}, []certctl.Proof{one}, nil))
	if len(files(t, first)) != 1 {
		t.Error("what another set holds, too, is gone")
	}
	must(t, k.Hold(certctl.ID{2}, []certctl.Proof{proof("http-01", "a.example.com", "other")}))
	if left := files(t, first); len(left) != 1 || left[0] == one.Token {
		t.Errorf("files %v", left)
	}
	must(t, k.Drop(certctl.ID{2}, []certctl.Proof{proof("http-01", "a.example.com", "other")}, nil))
	if left := append(files(t, first), files(t, second)...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What a process that was killed has left is removed by one that knows of it, and
// that may be allowed other folders.
func TestWhatADeadProcessHasLeftIsRemoved(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one, half := proof("http-01", "a.example.com", "one"), proof("http-01", "b.example.com", "half")
	must(t, keeper(t, Places{Webroots: []string{root}}).Hold(certctl.ID{1}, []certctl.Proof{one}))
	must(t, os.WriteFile(filepath.Join(root, aside(half.Token)), []byte("ha"), 0o600))
	must(t, keeper(t, Places{}).Drop(certctl.ID{1}, []certctl.Proof{one, half}, []string{root}))
	if left := files(t, root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Whoever may write below the webroot cannot have the agent write elsewhere.
func TestLinksDoNotLeadOutOfAWebroot(t *testing.T) {
	t.Parallel()
	root, secret := t.TempDir(), t.TempDir()
	one := proof("http-01", "a.example.com", "one")
	must(t, os.Symlink(secret, filepath.Join(root, ".well-known")))
	k := keeper(t, Places{Webroots: []string{root}})
	if err := k.Hold(certctl.ID{1}, []certctl.Proof{one}); err == nil {
		t.Error("it followed a link out of the webroot")
	}
	must(t, os.Remove(filepath.Join(root, ".well-known")))
	must(t, os.MkdirAll(filepath.Join(root, folder), 0o755))
	victim := filepath.Join(secret, "victim")
	must(t, os.WriteFile(victim, []byte("mine"), 0o600))
	must(t, os.Symlink(victim, filepath.Join(root, folder, one.Token)))
	must(t, os.Symlink(victim, filepath.Join(root, aside(one.Token))))
	must(t, k.Hold(certctl.ID{1}, []certctl.Proof{one}))
	must(t, k.Drop(certctl.ID{1}, []certctl.Proof{one}, nil))
	content, err := os.ReadFile(victim)
	if err != nil || string(content) != "mine" {
		t.Errorf("the victim has %q, %v", content, err)
	}
	if entries, err := os.ReadDir(secret); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// shake begins a handshake as a CA does.
func shake(t *testing.T, at, name string, protos ...string) (*x509.Certificate, error) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, NextProtos: protos, InsecureSkipVerify: true}} //nolint:gosec // it is self-signed
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	state := conn.(*tls.Conn).ConnectionState() //nolint:forcetypeassert // tls.Dialer's
	if state.NegotiatedProtocol != protocol {
		t.Errorf("the protocol is %q", state.NegotiatedProtocol)
	}
	return state.PeerCertificates[0], nil
}

func TestProofsWithinAHandshake(t *testing.T) {
	t.Parallel()
	at := address(t)
	k := keeper(t, Places{TLS: at})
	name, addr := proof("tls-alpn-01", "a.example.com", "one"), proof("tls-alpn-01", "192.0.2.7", "two")
	must(t, k.Hold(certctl.ID{1}, []certctl.Proof{name, addr}))
	for server, p := range map[string]certctl.Proof{"a.example.com": name, "A.example.com": name, "7.2.0.192.in-addr.arpa": addr} {
		cert, err := shake(t, at, server, "h2", protocol)
		must(t, err)
		digest := sha256.Sum256([]byte(p.Answer))
		want, err := asn1.Marshal(digest[:])
		must(t, err)
		found := false
		for _, e := range cert.Extensions {
			found = found || e.Id.Equal(acmeIdentifier) && e.Critical && bytes.Equal(e.Value, want)
		}
		if subject := append(cert.DNSNames, fmt.Sprint(cert.IPAddresses)); !found || !strings.Contains(strings.Join(subject, " "), p.Identifier) {
			t.Errorf("%s: extension %t, names %v", server, found, subject)
		}
	}
	for server, protos := range map[string][]string{"b.example.com": {protocol}, "a.example.com": nil, "": {protocol}} {
		if cert, err := shake(t, at, server, protos...); err == nil {
			t.Errorf("%s %v: %v", server, protos, cert.DNSNames)
		}
	}
	must(t, k.Drop(certctl.ID{1}, nil, nil))
	if listens(at) {
		t.Error("it listens for nothing any more")
	}
}

func TestServerNamesOfAddresses(t *testing.T) {
	t.Parallel()
	for identifier, want := range map[string]string{
		"a.example.com": "a.example.com", "192.0.2.7": "7.2.0.192.in-addr.arpa",
		"2001:db8::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		if got := serverName(identifier); got != want {
			t.Errorf("%s: %s", identifier, got)
		}
	}
}

// Tokens become paths: nothing but a token does.
func TestWhatIsNoTokenIsRefused(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	k := keeper(t, Places{Webroots: []string{root}})
	for _, token := range []string{"", "short", "../../../../etc/cron.d/x", "0123456789abcdef/x", "0123456789abcdef.x", "0123456789abcdef\x00", strings.Repeat("a", 201)} {
		p := certctl.Proof{Type: "http-01", Identifier: "a.example.com", Token: token, Answer: token + "." + thumbprint}
		if err := k.Hold(certctl.ID{1}, []certctl.Proof{p}); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%q: %v", token, err)
		}
	}
	good := proof("http-01", "a.example.com", "one")
	for _, change := range []func(*certctl.Proof){
		func(p *certctl.Proof) { p.Type = "dns-01" }, func(p *certctl.Proof) { p.Identifier = "*.example.com" },
		func(p *certctl.Proof) { p.Identifier = "a b" }, func(p *certctl.Proof) { p.Answer = "other." + thumbprint },
		func(p *certctl.Proof) { p.Answer = p.Token + ".<script>" },
	} {
		p := good
		change(&p)
		if err := k.Hold(certctl.ID{1}, []certctl.Proof{p}); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if left := files(t, root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
