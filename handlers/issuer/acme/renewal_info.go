package acme

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/certctl/certctl"
	"github.com/go-acme/lego/v4/acme/api"
)

// maxExplanation bounds the page that a CA explains itself with.
const maxExplanation = 500

// renewalInfo is a CA's answer (RFC 9773 section 4.2).
type renewalInfo struct {
	SuggestedWindow struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	} `json:"suggestedWindow"`
	ExplanationURL string `json:"explanationURL"`
}

// RenewalInfo asks the CA when it would have a leaf renewed. No account is needed
// for that. When it does not answer, it may yet have said when to ask again.
func (c *CA) RenewalInfo(ctx context.Context, leaf []byte) (certctl.RenewalInfo, error) {
	id, err := certctl.RenewalInfoID(leaf)
	if err != nil {
		return certctl.RenewalInfo{}, nil // nothing to ask for: it names no issuing key
	}
	s, err := c.dial(ctx, "", nil)
	if err != nil {
		return certctl.RenewalInfo{}, shown(err)
	}
	response, err := s.Certificates.GetRenewalInfo(id)
	later := certctl.RenewalInfo{RetryAfter: s.transport.wait()}
	if errors.Is(err, api.ErrNoARI) {
		return certctl.RenewalInfo{}, nil
	}
	if err != nil {
		return later, shown(s.transport.failed(err, "the CA does not say when to renew"))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		code := certctl.NotFound
		if response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError {
			code = certctl.Unavailable
		}
		return later, certctl.Errorf(code, "the CA answers %s when it is asked when to renew", response.Status)
	}
	info, err := readRenewalInfo(response)
	info.RetryAfter = later.RetryAfter
	return info, err
}

func readRenewalInfo(response *http.Response) (certctl.RenewalInfo, error) {
	var said renewalInfo
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil || said.SuggestedWindow.Start.IsZero() || said.SuggestedWindow.End.IsZero() {
		return certctl.RenewalInfo{}, certctl.Wrap(certctl.Invalid, err, "the CA's answer names no window for the renewal")
	}
	info := certctl.RenewalInfo{Start: said.SuggestedWindow.Start, End: said.SuggestedWindow.End}
	if page, err := url.Parse(said.ExplanationURL); err == nil && len(said.ExplanationURL) <= maxExplanation &&
		(page.Scheme == "https" || page.Scheme == "http") && page.Host != "" {
		info.ExplanationURL = page.String()
	}
	return info, nil
}
