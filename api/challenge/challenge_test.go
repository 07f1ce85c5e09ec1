package challenge_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/challenge"
	"github.com/rs/zerolog"
)

// tokens is a store with one token, and a database that fails for another.
type tokens struct{ asked int }

func (s *tokens) ChallengeAnswer(_ context.Context, token string) (string, error) {
	s.asked++
	switch token {
	case "abc_DEF-123":
		return "abc_DEF-123.print", nil
	case "broken":
		return "", errors.New("connection refused by 10.0.0.7")
	}
	return "", certctl.Errorf(certctl.NotFound, "no such token")
}

func TestOnlyTokensOfOursAreAnswered(t *testing.T) {
	t.Parallel()
	store := &tokens{}
	handler := challenge.Handler(store, func(context.Context) string { return "an-installation" }, zerolog.Nop())
	for _, c := range []struct {
		method, path string
		status       int
		body         string
		asked        bool
	}{
		{"GET", "/.well-known/acme-challenge/abc_DEF-123", 200, "abc_DEF-123.print", true},
		{"HEAD", "/.well-known/acme-challenge/abc_DEF-123", 200, "abc_DEF-123.print", true}, // the server drops a HEAD's body
		{"GET", "/.well-known/acme-challenge/other", 404, "404 page not found\n", true},
		{"GET", "/.well-known/acme-challenge/broken", 503, "try again\n", true},
		{"POST", "/.well-known/acme-challenge/abc_DEF-123", 405, "use GET\n", false},
		{"GET", "/.well-known/acme-challenge/", 404, "404 page not found\n", false},
		{"GET", "/.well-known/acme-challenge/a/b", 404, "404 page not found\n", false},
		{"GET", "/.well-known/acme-challenge/..%2f..%2fetc", 404, "404 page not found\n", false},
		{"GET", "/.well-known/acme-challenge/abc%20", 404, "404 page not found\n", false},
		{"GET", "/api/v1/certificates", 404, "404 page not found\n", false},
		{"GET", "/", 404, "404 page not found\n", false},
	} {
		store.asked = 0
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(c.method, c.path, http.NoBody))
		if id := answer.Header().Get(certctl.ChallengeHeader); id != "an-installation" {
			t.Errorf("%s %s: answered by %q", c.method, c.path, id)
		}
		if answer.Code != c.status || answer.Body.String() != c.body || (store.asked > 0) != c.asked {
			t.Errorf("%s %s: %d %q, asked %d times", c.method, c.path, answer.Code, answer.Body, store.asked)
		}
	}
}
