package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/api/rest"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/notifier"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"github.com/rs/zerolog"
)

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }

// targets is the table of kinds of agents and proxies.
type targets struct{}

func (targets) Validate(kind string, settings json.RawMessage) error {
	return remote.Kinds().Validate(kind, settings)
}

func (targets) Experimental(kind string) bool { return remote.Kinds().Experimental(kind) }

// noSigner answers like a platform whose signer is away.
type noSigner struct{}

var errAway = certctl.Errorf(certctl.Unavailable, "nobody in the role signer answers")

func (noSigner) Enroll(context.Context, rest.EnrollRequest) (certctl.Enrolled, error) {
	return certctl.Enrolled{}, errAway
}

func (noSigner) Credentials(context.Context, certctl.Statement) (certctl.Credentials, error) {
	return certctl.Credentials{}, errAway
}

func (noSigner) Reader(context.Context, certctl.Reader) (string, error) { return "", errAway }

// world is the API on a database of its own.
type world struct {
	*store.Store
	t      *testing.T
	server *httptest.Server
	feed   *rest.Feed
	sealed atomic.Int64 // how many secrets were sealed
	admin  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, feed: rest.NewFeed(), admin: "cck_admin"}
	var err error
	w.Store, err = store.Open(t.Context(), storetest.URL(t), func(e certctl.Effects) { w.feed.Publish(e.Events) })
	w.must(err)
	t.Cleanup(w.Store.Close)
	_, err = w.Bootstrap(t.Context(), store.BootstrapRequest{PKIURL: "http://pki.example.com", AdminKey: certctl.DigestOf([]byte(w.admin)), AdminPrefix: "cck_admi"})
	w.must(err)
	principal, err := w.AuthenticateKey(t.Context(), certctl.DigestOf([]byte(w.admin)))
	w.must(err)
	_, err = w.CreateIssuer(t.Context(), certctl.Actor{Principal: principal}, certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal})
	w.must(err)
	router, err := rest.New(rest.Config{
		Store: w.Store, Signer: noSigner{}, Seal: w.seal, Feed: w.feed, Issuers: issuer.Kinds{}, Targets: targets{}, Channels: notifier.Kinds{},
		Metrics:       http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "up 1\n") }),
		Ready:         func(context.Context) (bool, map[string]string) { return true, map[string]string{"database": "ok"} },
		CAFingerprint: "ab", Version: "test", Now: time.Now, Log: zerolog.Nop(),
	})
	w.must(err)
	w.server = httptest.NewTLSServer(router)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) seal(_ string, _ certctl.ID, _ string, plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, errors.New("nothing to seal")
	}
	w.sealed.Add(1)
	return []byte("sealed"), nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer is a response that has been read.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// into decodes the body.
func (a answer) into(v any) answer {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return a
}

// want fails the test when the status is another one.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// problem is an error as clients see it.
type problem struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Field string `json:"field"`
	} `json:"errors"`
}

// refusal decodes a problem and checks its form.
func (a answer) refusal() problem {
	a.t.Helper()
	var p problem
	a.into(&p)
	if a.header.Get("Content-Type") != "application/problem+json" || p.Status != a.status || p.Detail == "" {
		a.t.Errorf("not a problem (RFC 9457): %s %s", a.header.Get("Content-Type"), a.body)
	}
	return p
}

// do sends a request with a key; body is JSON text or a value to encode.
func (w *world) do(method, path, key string, body any, headers ...string) answer {
	w.t.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		w.must(err)
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, reader)
	w.must(err)
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := w.server.Client().Do(request)
	w.must(err)
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	w.must(err)
	return answer{t: w.t, status: response.StatusCode, header: response.Header, body: read}
}

// as is do with the admin's key.
func (w *world) as(method, path string, body any, headers ...string) answer {
	w.t.Helper()
	return w.do(method, path, w.admin, body, headers...)
}

// member makes a principal with a role and returns a key of it.
func (w *world) member(name, team, role string) string {
	w.t.Helper()
	principal := map[string]any{"name": name, "roles": []string{role}}
	if team != "" {
		principal["team"] = team
	}
	w.as(http.MethodPost, "/api/v1/principals", principal).want(http.StatusCreated)
	var made struct {
		Key string `json:"key"`
	}
	w.as(http.MethodPost, "/api/v1/api-keys", map[string]any{"principal": name, "name": "k"}).want(http.StatusCreated).into(&made)
	return made.Key
}

// count returns a number from the database.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	w.must(w.Pool().QueryRow(w.t.Context(), query, args...).Scan(&n))
	return n
}
