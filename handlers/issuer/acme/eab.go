package acme

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/certctl/certctl"
)

// eabServices give anybody who names an address of e-mail what binds an account to
// a customer, by directory.
var eabServices = map[string]string{
	directories["zerossl"]: "https://api.zerossl.com/acme/eab-credentials-email",
}

// maxBinding bounds an answer of such a service.
const maxBinding = 64 << 10

// binding is what a new account is bound with (RFC 8555 section 7.3.4): what the
// settings name, or what the CA's service gives; nothing where the CA wants none.
func (c *CA) binding(ctx context.Context) (kid, key string, err error) {
	switch service := c.eabService(); {
	case c.settings.EABKeyID != "" && c.secret["eab_hmac"] == "":
		return "", "", misconfigured(nil, "eab_key_id is set and the secret eab_hmac is not: the CA gives you both")
	case c.settings.EABKeyID != "":
		return c.settings.EABKeyID, c.secret["eab_hmac"], nil
	case service == "":
		return "", "", nil
	case len(c.settings.Contact) == 0:
		return "", "", misconfigured(nil, "the CA binds accounts to addresses of e-mail: name one under contact, or set eab_key_id and the secret eab_hmac")
	default:
		return c.fetchBinding(ctx, service, c.settings.Contact[0])
	}
}

func (c *CA) eabService() string {
	if c.settings.EABService != "" {
		return c.settings.EABService
	}
	return eabServices[c.settings.Directory]
}

// fetchBinding asks a service. Each answer is a new binding, of which the one counts
// that the account is made with: it is not kept.
func (c *CA) fetchBinding(ctx context.Context, service, address string) (kid, key string, err error) {
	refused := func(cause error, format string, args ...any) error {
		e := certctl.Wrap(certctl.Unavailable, cause, format, args...)
		return &certctl.IssueError{
			Kind: certctl.FailRetryable, Code: "acme_eab_service", Resume: true, Cause: e,
			Message: e.Message + ": without it the CA makes no account; or set eab_key_id and the secret eab_hmac by hand",
		}
	}
	form := url.Values{"email": {address}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service, strings.NewReader(form))
	if err != nil {
		return "", "", misconfigured(err, "eab_service is no URL that can be asked")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("User-Agent", userAgent)
	response, err := c.client.Do(request)
	if err != nil {
		return "", "", refused(err, "%s cannot be asked for an external account binding", service)
	}
	defer func() { _ = response.Body.Close() }()
	var said struct {
		KeyID string `json:"eab_kid"`
		Key   string `json:"eab_hmac_key"`
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxBinding)).Decode(&said)
	if err != nil || response.StatusCode != http.StatusOK || said.KeyID == "" || said.Key == "" {
		why := ""
		if said.Error.Type != "" {
			why = " (" + certctl.Clip(said.Error.Type, 100) + ")"
		}
		return "", "", refused(err, "%s gave no external account binding, with status %d%s", service, response.StatusCode, why)
	}
	return said.KeyID, said.Key, nil
}
