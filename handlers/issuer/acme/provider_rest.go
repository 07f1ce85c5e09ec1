package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
)

// rest asks an API over HTTPS with a token.
type rest struct {
	client *http.Client
	name   string // for messages
	base   string
	token  string
}

// call asks and decodes what is answered. The error of a refusal holds what the
// API says of it.
func (r rest) call(ctx context.Context, method, path string, body, answer any) error {
	var encoded io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return certctl.Wrap(certctl.Internal, err, "the request cannot be encoded")
		}
		encoded = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, encoded)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the request cannot be made")
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s cannot be reached", r.name)
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the answer of %s cannot be read", r.name)
	}
	if response.StatusCode/100 != 2 {
		code := certctl.Unavailable
		if response.StatusCode == http.StatusNotFound {
			code = certctl.NotFound
		}
		return certctl.Errorf(code, "%s answers with status %d: %s", r.name, response.StatusCode, certctl.Clip(strings.TrimSpace(string(said)), 200))
	}
	if answer == nil || len(said) == 0 {
		return nil
	}
	if err := json.Unmarshal(said, answer); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the answer of %s cannot be understood", r.name)
	}
	return nil
}

// cloudflare writes through Cloudflare's API. Lego's provider remembers the ids of
// what it wrote, which another worker would not know.
type cloudflare struct{ rest }

func openCloudflare(c *CA, _ map[string]string) (provider, error) {
	token := c.secret["cloudflare_api_token"]
	if token == "" {
		return nil, certctl.Errorf(certctl.Invalid, "the secret cloudflare_api_token is not set")
	}
	return cloudflare{rest{c.policy.Client(nil), "Cloudflare", "https://api.cloudflare.com/client/v4", token}}, nil
}

// cloudflareRecord is a DNS record, whose content is quoted text.
type cloudflareRecord struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Content string `json:"content"`
	TTL     int    `json:"ttl"`
}

func (c cloudflare) Present(ctx context.Context, p proof) error {
	zone, there, err := c.find(ctx, p)
	if err != nil || len(there) > 0 {
		return err
	}
	record := cloudflareRecord{Type: "TXT", Name: p.Record, Content: strconv.Quote(p.Value), TTL: recordTTL}
	return c.call(ctx, http.MethodPost, "/zones/"+url.PathEscape(zone)+"/dns_records", record, nil)
}

func (c cloudflare) Remove(ctx context.Context, p proof) error {
	zone, there, err := c.find(ctx, p)
	if err != nil {
		return err
	}
	for _, id := range there {
		if err := c.call(ctx, http.MethodDelete, "/zones/"+url.PathEscape(zone)+"/dns_records/"+url.PathEscape(id), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// find returns the zone of a record, and the records that hold the value.
func (c cloudflare) find(ctx context.Context, p proof) (zone string, there []string, err error) {
	if zone, err = c.zone(ctx, p.Record); err != nil {
		return "", nil, err
	}
	var records struct{ Result []cloudflareRecord }
	query := url.Values{"type": {"TXT"}, "name": {p.Record}, "per_page": {"100"}}
	if err := c.call(ctx, http.MethodGet, "/zones/"+url.PathEscape(zone)+"/dns_records?"+query.Encode(), nil, &records); err != nil {
		return "", nil, err
	}
	for _, r := range records.Result {
		if strings.Trim(r.Content, `"`) == p.Value {
			there = append(there, r.ID)
		}
	}
	return zone, there, nil
}

func (c cloudflare) zone(ctx context.Context, record string) (string, error) {
	for name := record; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		var zones struct{ Result []struct{ ID string } }
		if err := c.call(ctx, http.MethodGet, "/zones?"+url.Values{"name": {name}}.Encode(), nil, &zones); err != nil {
			return "", err
		}
		if len(zones.Result) > 0 {
			return zones.Result[0].ID, nil
		}
	}
	return "", certctl.Errorf(certctl.Unavailable, "the token sees no zone at Cloudflare for %s", record)
}

// digitalOcean writes through DigitalOcean's API; of lego's provider the same is
// true as of that for Cloudflare.
type digitalOcean struct{ rest }

func openDigitalOcean(c *CA, _ map[string]string) (provider, error) {
	token := c.secret["digitalocean_token"]
	if token == "" {
		return nil, certctl.Errorf(certctl.Invalid, "the secret digitalocean_token is not set")
	}
	return digitalOcean{rest{c.policy.Client(nil), "DigitalOcean", "https://api.digitalocean.com/v2", token}}, nil
}

// digitalOceanRecord is a record, whose name is relative to its domain.
type digitalOceanRecord struct {
	ID   int64  `json:"id,omitempty"`
	Type string `json:"type"`
	Name string `json:"name"`
	Data string `json:"data"`
	TTL  int    `json:"ttl"`
}

func (d digitalOcean) Present(ctx context.Context, p proof) error {
	domain, there, err := d.find(ctx, p)
	if err != nil || len(there) > 0 {
		return err
	}
	record := digitalOceanRecord{Type: "TXT", Name: strings.TrimSuffix(p.Record, "."+domain), Data: p.Value, TTL: recordTTL}
	return d.call(ctx, http.MethodPost, "/domains/"+url.PathEscape(domain)+"/records", record, nil)
}

func (d digitalOcean) Remove(ctx context.Context, p proof) error {
	domain, there, err := d.find(ctx, p)
	if err != nil {
		return err
	}
	for _, id := range there {
		if err := d.call(ctx, http.MethodDelete, "/domains/"+url.PathEscape(domain)+"/records/"+strconv.FormatInt(id, 10), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// find returns the domain of a record, and the records that hold the value.
func (d digitalOcean) find(ctx context.Context, p proof) (domain string, there []int64, err error) {
	for name := p.Record; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		var records struct {
			Records []digitalOceanRecord `json:"domain_records"`
		}
		query := url.Values{"type": {"TXT"}, "name": {p.Record}, "per_page": {"200"}}
		err = d.call(ctx, http.MethodGet, "/domains/"+url.PathEscape(name)+"/records?"+query.Encode(), nil, &records)
		if certctl.ErrorCode(err) == certctl.NotFound {
			continue // not a domain of the account
		}
		if err != nil {
			return "", nil, err
		}
		for _, r := range records.Records {
			if r.Data == p.Value {
				there = append(there, r.ID)
			}
		}
		return name, there, nil
	}
	return "", nil, certctl.Errorf(certctl.Unavailable, "the account at DigitalOcean has no domain for %s", p.Record)
}
