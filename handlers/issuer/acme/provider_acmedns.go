package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// acmeDNS writes to an acme-dns server, which holds nothing but such records: each
// registration has one name there, to which a CNAME leads. It keeps the last two
// values, so that a wildcard and its base fit, and knows no removal.
type acmeDNS struct {
	client   *http.Client
	url      string
	accounts []acmeDNSAccount
}

// acmeDNSAccount is what a registration answers, and what lego keeps of one.
type acmeDNSAccount struct {
	FullDomain string `json:"fulldomain"`
	SubDomain  string `json:"subdomain"`
	Username   string `json:"username"`
	Password   string `json:"password"`
}

func (a acmeDNSAccount) complete() bool {
	return a.FullDomain != "" && a.SubDomain != "" && a.Username != "" && a.Password != ""
}

func openAcmeDNS(c *CA, config map[string]string) (provider, error) {
	byName := map[string]acmeDNSAccount{}
	if err := json.Unmarshal([]byte(c.secret["acmedns_accounts"]), &byName); err != nil || len(byName) == 0 {
		return nil, certctl.Errorf(certctl.Invalid, "the secret acmedns_accounts must be a JSON object with what the server answered to each registration, by domain")
	}
	p := acmeDNS{client: c.policy.Client(c.settings.roots()), url: strings.TrimSuffix(config["url"], "/")}
	for name, account := range byName {
		if !account.complete() {
			return nil, certctl.Errorf(certctl.Invalid, "the secret acmedns_accounts lacks fulldomain, subdomain, username or password of %s", certctl.Clip(name, 100))
		}
		p.accounts = append(p.accounts, account)
	}
	return p, nil
}

// Present implements provider. Which registration a record is of follows from where
// its CNAME leads.
func (a acmeDNS) Present(ctx context.Context, p proof) error {
	i := slices.IndexFunc(a.accounts, func(account acmeDNSAccount) bool {
		return strings.EqualFold(strings.TrimSuffix(account.FullDomain, "."), p.Record)
	})
	if i < 0 {
		return certctl.Errorf(certctl.Invalid, "%s is no name of the registrations under acmedns_accounts", p.Record).
			WithRemedy("make %s a CNAME to the fulldomain of one, or register", recordOf(p.Name))
	}
	return a.update(ctx, a.accounts[i], p.Value)
}

// Remove implements provider: the next values push this one out.
func (acmeDNS) Remove(context.Context, proof) error { return nil }

func (a acmeDNS) update(ctx context.Context, account acmeDNSAccount, value string) error {
	body, err := json.Marshal(map[string]string{"subdomain": account.SubDomain, "txt": value})
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the record cannot be encoded")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/update", bytes.NewReader(body))
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is no URL", a.url)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Api-User", account.Username)
	request.Header.Set("X-Api-Key", account.Password)
	response, err := a.client.Do(request)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the server at %s cannot be reached", a.url)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxBody) // so that the connection can be used again
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return certctl.Errorf(certctl.Invalid, "the server at %s does not take the registration of %s, or not from this address", a.url, account.FullDomain)
	}
	return certctl.Errorf(certctl.Unavailable, "the server at %s answers with status %d", a.url, response.StatusCode)
}
