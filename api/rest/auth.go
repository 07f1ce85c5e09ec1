package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/certctl/certctl"
)

// AccessStore knows who holds which key.
type AccessStore interface {
	AuthenticateKey(ctx context.Context, hash certctl.Digest) (certctl.Principal, error)
	RecordDenied(ctx context.Context, actor certctl.Actor, verb certctl.Verb, object certctl.Object, what string) error
}

// maxKey bounds a bearer token before it is hashed.
const maxKey = 200

// open lists the operations without a bearer key: probes, the description, and
// what agents authorise with a token or a signature of their own.
var open = map[string]bool{
	"/health": true, "/healthz": true, "/livez": true, "/ready": true, "/readyz": true,
	"/api/v1/openapi.yaml": true, "/api/v1/agents/enroll": true, "/api/v1/trust": true,
	"/api/v1/agents/{agent}/credentials": true, "/api/v1/agents/{agent}/credentials/nonce": true,
}

// authenticate finds out who sends the request, or refuses it.
func (s *Server) authenticate(r *http.Request, template string) (certctl.Principal, error) {
	if open[template] {
		return certctl.Principal{Kind: certctl.PrincipalProtocol, Name: "anonymous"}, nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" || len(key) > maxKey {
		return certctl.Principal{}, unauthorized("an API key is needed: Authorization: Bearer <key>")
	}
	principal, err := s.store.AuthenticateKey(r.Context(), certctl.DigestOf([]byte(key)))
	switch certctl.ErrorCode(err) {
	case "":
		return principal, nil
	case certctl.NotFound, certctl.Denied, certctl.Gone:
		return certctl.Principal{}, unauthorized("this API key is not valid (unknown, expired, revoked, or of a disabled principal)")
	}
	return certctl.Principal{}, err
}

func unauthorized(message string) error {
	return statusError{http.StatusUnauthorized, certctl.Errorf(certctl.Denied, "%s", message)}
}
