// Package challenge answers CAs that look for the proof of a name over HTTP (RFC
// 8555 section 8.3). Tokens are rows: any replica answers for all of them. It
// serves these paths and nothing else, and tells nobody which tokens there are.
package challenge

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// Store holds the tokens of orders that are under way.
type Store interface {
	ChallengeAnswer(ctx context.Context, token string) (string, error)
}

// Prefix is the path below which tokens lie.
const Prefix = "/.well-known/acme-challenge/"

// maxToken bounds what is looked up.
const maxToken = 512

// Handler answers for the store's tokens. What it answers carries the id of the
// installation, see certctl.ChallengeHeader; "" while that is not known.
func Handler(store Store, installation func(context.Context) string, log zerolog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := installation(r.Context()); id != "" {
			w.Header().Set(certctl.ChallengeHeader, id)
		}
		token, ok := strings.CutPrefix(r.URL.Path, Prefix)
		if !ok || !isToken(token) {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		answer, err := store.ChallengeAnswer(r.Context(), token)
		switch {
		case certctl.ErrorCode(err) == certctl.NotFound:
			http.NotFound(w, r)
			return
		case err != nil:
			log.Error().Err(err).Msg("challenge token not looked up")
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, answer) // a client that went away
	})
}

// isToken reports whether s can be a token: base64url without padding.
func isToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
