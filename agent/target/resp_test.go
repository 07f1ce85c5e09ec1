package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// conversation is what a server says, and what it has been told.
type conversation struct {
	io.Reader
	bytes.Buffer
}

func (c *conversation) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func TestRedisAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		say  string
		want []string
		err  string
	}{
		"fine":                 {say: "+OK\r\n", want: []string{"OK"}},
		"a list":               {say: "*2\r\n$13\r\ntls-cert-file\r\n$2\r\n/a\r\n", want: []string{"tls-cert-file", "/a"}},
		"an empty list":        {say: "*0\r\n"},
		"an error":             {say: "-NOPERM no\r\n", err: "NOPERM no"},
		"a line without end":   {say: "+" + strings.Repeat("x", 5000), err: "buffer full"},
		"a long string":        {say: "$9999999\r\n", err: "length"},
		"a list in a list":     {say: "*1\r\n*1\r\n+x\r\n", err: "unknown"},
		"a list without end":   {say: "*99999\r\n", err: "length"},
		"a string that is cut": {say: "$9\r\nabc", err: "unexpected EOF"},
		"an empty line":        {say: "\r\n", err: "empty"},
		"another protocol":     {say: "HTTP/1.1 400 Bad Request\r\n", err: "unknown"},
	} {
		said := &conversation{Reader: strings.NewReader(c.say)}
		got, err := newRESP(said).do("AUTH", "secret")
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if said.String() != "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n" {
			t.Errorf("%s: it was told %q", name, said.String())
		}
	}
}

func FuzzRedisAnswers(f *testing.F) {
	f.Add("*2\r\n$13\r\ntls-cert-file\r\n$2\r\n/a\r\n")
	f.Add("-ERR\r\n")
	f.Fuzz(func(t *testing.T, say string) {
		got, err := newRESP(&conversation{Reader: strings.NewReader(say)}).do("PING")
		if err == nil && len(got) > maxRESPArray {
			t.Errorf("%d strings", len(got))
		}
	})
}

// told notes what a daemon is told.
type told struct {
	certificate, key string
	err              error
}

func (d *told) names(context.Context) (certificate, key string, err error) {
	return d.certificate, d.key, d.err
}

func (d *told) tell(_ context.Context, certificate, key string) error {
	d.certificate, d.key = certificate, key
	return nil
}

func TestADaemonIsToldTheOnePlace(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	installed := func(place string) {
		t.Helper()
		current := filepath.Join(directory, place, "current")
		if err := errors.Join(os.MkdirAll(current, 0o700), os.WriteFile(filepath.Join(current, "cert.pem"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	d := &told{certificate: "/first/cert", key: "/first/key"}
	if err := tellAgain(t.Context(), d, directory); err != nil || d.certificate != "/first/cert" {
		t.Errorf("nothing is installed: %v, %+v", err, d)
	}
	installed("a")
	if err := tellAgain(t.Context(), d, directory); err != nil || d.certificate != filepath.Join(directory, "a/current/fullchain.pem") || d.key != filepath.Join(directory, "a/current/privkey.pem") {
		t.Errorf("one is: %v, %+v", err, d)
	}
	installed("b")
	if err := tellAgain(t.Context(), d, directory); err != nil || d.certificate != filepath.Join(directory, "a/current/fullchain.pem") {
		t.Errorf("it names one of two: %v, %+v", err, d)
	}
	d.certificate = "/first/cert"
	if err := tellAgain(t.Context(), d, directory); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("it names none of two: %v, %+v", err, d)
	}
}
