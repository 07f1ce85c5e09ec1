package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

func TestEnrolKeepsIdentityAndKeys(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	id, err := LoadIdentity(n.dir)
	if err != nil || id.Agent != n.agent || id.Installation != n.installation || id.Name != "web-1" {
		t.Fatalf("identity %+v, %v", id, err)
	}
	sent := n.platform.enrolled[0]
	if err := sent.Keys.Check(); err != nil || sent.Token != "token" || sent.MachineID != "machine" {
		t.Errorf("sent %+v, %v", sent, err)
	}
	for _, name := range []string{"identity.json", "node-keys.json", "trust.json"} {
		if info, err := os.Stat(filepath.Join(n.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if _, err := Enrol(t.Context(), n.enrolOptions()); err != nil || len(n.platform.enrolled) != 1 {
		t.Errorf("again: %v, %d requests", err, len(n.platform.enrolled))
	}
}

// A platform that is not ready is asked again, with the same keys, so that it can
// give the same answer; its words are the error when there is no more time.
func TestEnrolRepeatsWithTheSameKeys(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	n := &node{platform: p, dir: t.TempDir() + "/state"}
	ready := false
	p.apiError = func(w http.ResponseWriter, r *http.Request) bool {
		if ready {
			return false
		}
		var e certctl.Enrolment
		p.read(r, &e)
		p.enrolled = append(p.enrolled, e)
		if ready = len(p.enrolled) == 3; !ready {
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		p.write(w, map[string]string{"title": "busy", "detail": "the signer is away", "remedy": "wait"})
		return true
	}
	short, cancel := context.WithTimeout(t.Context(), joinPause)
	defer cancel()
	_, err := Enrol(short, n.enrolOptions())
	if certctl.ErrorCode(err) != certctl.Unavailable || err.Error() != "busy: the signer is away" || remedyOf(err) != "wait" || retryAfter(err).Seconds() != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := Enrol(t.Context(), n.enrolOptions()); err != nil {
		t.Fatal(err)
	}
	if len(p.enrolled) != 4 {
		t.Fatalf("asked %d times", len(p.enrolled))
	}
	for _, e := range p.enrolled[1:] {
		if a, b := p.enrolled[0].Keys, e.Keys; !bytes.Equal(a.Signing, b.Signing) || !bytes.Equal(a.Sealing, b.Sealing) || a.Bus != b.Bus {
			t.Error("other keys")
		}
	}
}

// The token goes only to a server whose certificate verifies up to the root
// with the fingerprint.
func TestEnrolRefusesOtherServers(t *testing.T) {
	t.Parallel()
	other := newAuthority(t, "other")
	for name, c := range map[string]struct {
		change func(*platform, *EnrolOptions)
		want   string
	}{
		"another root": {func(_ *platform, o *EnrolOptions) {
			o.CAFingerprint = certctl.DigestOf(other.cert.Raw).String()
		}, "does not present the CA"},
		"the right root, but another one signed": {func(p *platform, o *EnrolOptions) {
			public, private := newEd25519(t)
			p.api.TLS.Certificates = []tls.Certificate{{
				Certificate: [][]byte{other.leaf(t, public, "localhost"), other.cert.Raw, p.root.cert.Raw}, PrivateKey: private,
			}}
		}, "is not signed by the CA"},
		"another host": {func(p *platform, o *EnrolOptions) {
			public, private := newEd25519(t)
			leaf := p.root.leaf(t, public, "elsewhere.example")
			p.api.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf, p.root.cert.Raw}, PrivateKey: private}}
			o.Server = strings.Replace(p.api.URL, "127.0.0.1", "localhost", 1)
		}, "is not signed by the CA"},
		"plain HTTP":        {func(p *platform, o *EnrolOptions) { o.Server = "http://localhost" }, "must have the form https://"},
		"not a fingerprint": {func(p *platform, o *EnrolOptions) { o.CAFingerprint = "abc" }, "64 hex digits"},
		"not a name":        {func(p *platform, o *EnrolOptions) { o.Name = "a b" }, "a name starts with"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t)
			n := &node{platform: p, dir: t.TempDir() + "/state"}
			options := n.enrolOptions()
			c.change(p, &options)
			_, err := Enrol(t.Context(), options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if len(p.enrolled) != 0 {
				t.Error("the token was sent")
			}
			if _, err := LoadIdentity(options.Dir); certctl.ErrorCode(err) != certctl.NotFound {
				t.Errorf("an identity was kept: %v", err)
			}
		})
	}
}

func TestEnrolRefusesAnAnswerThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*platform){
		"another CA in the trust document":       func(p *platform) { p.document.CABundle = newAuthority(t, "other").pem() },
		"trust document of another installation": func(p *platform) { p.document.Installation = certctl.ID{1} },
		"trust document without a CA":            func(p *platform) { p.document.CABundle = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &node{platform: newPlatform(t), dir: t.TempDir() + "/state"}
			change(n.platform)
			if _, err := Enrol(t.Context(), n.enrolOptions()); err == nil {
				t.Error("accepted")
			}
			if _, err := LoadIdentity(n.dir); certctl.ErrorCode(err) != certctl.NotFound {
				t.Errorf("an identity was kept: %v", err)
			}
		})
	}
}

func TestParseFingerprint(t *testing.T) {
	t.Parallel()
	want := certctl.DigestOf([]byte("x"))
	plain := want.String()
	var colons []string
	for i := 0; i < len(plain); i += 2 {
		colons = append(colons, strings.ToUpper(plain[i:i+2]))
	}
	for _, text := range []string{plain, strings.Join(colons, ":"), "sha256:" + plain, " SHA256:" + strings.ToUpper(plain) + "\n"} {
		if got, err := ParseFingerprint(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

func TestMachineID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	system := filepath.Join(t.TempDir(), "machine-id")
	made, err := machineID(dir, system)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := machineID(dir, system); err != nil || again != made {
		t.Errorf("%s is not %s, %v", again, made, err)
	}
	if err := os.WriteFile(system, []byte("uninitialized\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := machineID(dir, system); err != nil || again != made {
		t.Errorf("an image's id was used: %s, %v", again, err)
	}
	raw := "0123456789abcdef0123456789abcdef"
	if err := os.WriteFile(system, []byte(raw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if own, err := machineID(dir, system); err != nil || own == made || own == raw {
		t.Errorf("got %s, %v", own, err)
	}
}
