package remote

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"github.com/certctl/certctl"
)

const (
	gcpMetadata = "metadata.google.internal" // unless GCE_METADATA_HOST says otherwise
	gcpTokens   = "/computeMetadata/v1/instance/service-accounts/default/token"
	gcpAudience = "https://www.googleapis.com/auth/cloud-platform"
	maxAccount  = 64 << 10
)

// gcpLogin is whose requests are sent.
type gcpLogin struct {
	file   string
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	have  string    // guarded by mu
	until time.Time // guarded by mu
}

// token is for the requests of the next moments.
func (l *gcpLogin) token(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.have != "" && l.now().Before(l.until) {
		return l.have, nil
	}
	var token *auth.Token
	var err error
	if l.file != "" {
		token, err = l.sign(ctx)
	} else {
		token, err = l.ask(ctx)
	}
	if err != nil {
		return "", err
	}
	l.have, l.until = token.Value, l.now().Add(loginFor)
	if end := token.Expiry.Add(-time.Minute); end.Before(l.until) {
		l.until = end
	}
	return l.have, nil
}

// sign makes a token with the key of a service account; nobody is asked. Files that
// say where to get one, or what to run for it, are refused.
func (l *gcpLogin) sign(ctx context.Context) (*auth.Token, error) {
	info, err := os.Stat(l.file)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the credentials in %s cannot be read", l.file)
	}
	if info.Mode().Perm()&0o077 != 0 || info.Size() > maxAccount {
		return nil, certctl.Errorf(certctl.Denied, "the credentials in %s may be read by others, or are none: mode %#o", l.file, info.Mode().Perm()).
			WithRemedy("chmod go= %s", l.file)
	}
	content, err := os.ReadFile(l.file)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the credentials in %s cannot be read", l.file)
	}
	account, err := credentials.NewCredentialsFromJSON(credentials.ServiceAccount, content, &credentials.DetectOptions{
		Scopes: []string{gcpAudience}, UseSelfSignedJWT: true, Client: l.client,
	})
	var token *auth.Token
	if err == nil {
		token, err = account.Token(ctx)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Denied, err, "%s holds no key of a service account: %s", l.file, certctl.Clip(err.Error(), 200)).
			WithRemedy("it needs the JSON of a key of type service_account")
	}
	return token, nil
}

// ask asks the machine's own host for the token of its account, as Google's tools do.
func (l *gcpLogin) ask(ctx context.Context) (*auth.Token, error) {
	host := os.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = gcpMetadata
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+gcpTokens, http.NoBody)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s is no host", host)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := l.client.Do(request)
	if err != nil {
		return nil, unanswered("the metadata server of Google", err)
	}
	defer response.Body.Close() // nothing is left to be read
	var said struct {
		Token   string `json:"access_token"`
		Seconds int    `json:"expires_in"`
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAccount))
	if err == nil {
		err = json.Unmarshal(content, &said)
	}
	if err != nil || said.Token == "" {
		return nil, certctl.Wrap(certctl.Denied, err, "the machine has no account: %s", response.Status).
			WithRemedy("give the proxy's machine or pod a service account, or the target a credentials_file")
	}
	return &auth.Token{Value: said.Token, Expiry: l.now().Add(time.Duration(said.Seconds) * time.Second)}, nil
}
