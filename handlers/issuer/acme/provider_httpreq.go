package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/certctl/certctl"
)

// httpReq lets a web service of the operator write the records: POST
// {"fqdn": "_acme-challenge.example.com.", "value": "…"} to <url>/present and
// <url>/cleanup, as lego's provider of this name does.
type httpReq struct {
	client             *http.Client
	url                string
	username, password string
}

func openHTTPReq(c *CA, config map[string]string) (provider, error) {
	return httpReq{
		client: c.policy.Client(c.settings.roots()), url: strings.TrimSuffix(config["url"], "/"),
		username: config["username"], password: c.secret["httpreq_password"],
	}, nil
}

func (h httpReq) Present(ctx context.Context, p proof) error {
	return h.post(ctx, "/present", p.Record, p.Value)
}

func (h httpReq) Remove(ctx context.Context, p proof) error {
	return h.post(ctx, "/cleanup", p.Record, p.Value)
}

func (h httpReq) post(ctx context.Context, path, record, value string) error {
	body, err := json.Marshal(map[string]string{"fqdn": record + ".", "value": value})
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the record cannot be encoded")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+path, bytes.NewReader(body))
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is no URL", h.url)
	}
	request.Header.Set("Content-Type", "application/json")
	if h.username != "" {
		request.SetBasicAuth(h.username, h.password)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the service at %s cannot be reached", h.url)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxBody) // so that the connection can be used again
	if response.StatusCode/100 != 2 {
		return certctl.Errorf(certctl.Unavailable, "the service at %s answers with status %d", h.url, response.StatusCode)
	}
	return nil
}
