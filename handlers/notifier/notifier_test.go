package notifier_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/notifier"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// service is a server over HTTPS that keeps what it is told.
type service struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	status   int
	header   http.Header
	answer   string
	requests []request
}

type request struct {
	path   string
	header http.Header
	body   []byte
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{t: t, status: http.StatusOK, header: http.Header{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, request{r.URL.RequestURI(), r.Header, body})
		for name, values := range s.header {
			w.Header()[name] = values
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

// settings adds what it takes to reach the service.
func (s *service) settings(more map[string]any) map[string]any {
	all := map[string]any{
		"allow_private_networks": true,
		"ca_bundle":              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	}
	for key, value := range more {
		all[key] = value
	}
	return all
}

// bodies are what it was told, decoded.
func (s *service) bodies() (all []map[string]any) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		var body map[string]any
		if err := json.Unmarshal(r.body, &body); err != nil {
			s.t.Fatalf("%s: %v", r.body, err)
		}
		all = append(all, body)
	}
	return all
}

// open opens a channel of a kind, as the API would have let it be made.
func open(t testing.TB, kind string, settings map[string]any, secrets map[string]string) notifier.Notifier {
	t.Helper()
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := (notifier.Kinds{}).Validate(kind, raw); err != nil {
		t.Fatal(err)
	}
	if err := (notifier.Kinds{}).CheckSecrets(kind, secrets, true); err != nil {
		t.Fatal(err)
	}
	n, err := notifier.Open(notifier.Config{}, certctl.Channel{Name: "ops", Kind: kind, Settings: raw}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// about is a notification of an event with data.
func about(name certctl.EventName, data map[string]any) certctl.Notification {
	raw, _ := json.Marshal(data)
	n := certctl.Notification{ID: certctl.NewID(noon), Event: certctl.Event{
		ID: certctl.NewID(noon), Time: noon, Team: certctl.DefaultTeam, Aggregate: certctl.AggregateCertificate, Object: certctl.NewID(noon),
		Name: name, Outcome: certctl.OutcomeSuccess, Data: raw,
	}}
	n.Severity = n.Event.Severity()
	for _, trouble := range n.Event.Troubles() {
		n.Keys, n.Ends = append(n.Keys, trouble.Key), trouble.Ends
	}
	return n
}

func expiring(name string) certctl.Notification {
	return about(certctl.EventCertificateExpiring, map[string]any{"name": name, "not_after": noon.Add(20 * time.Hour), "serial": "0a1b"})
}

func ok(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Errorf("notification %d: %v", i, err)
		}
	}
}

func TestChatsAreToldAllInOneMessage(t *testing.T) {
	t.Parallel()
	for kind, field := range map[string]string{"slack": "text", "mattermost": "text", "discord": "content", "telegram": "text"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			secrets, settings := map[string]string{"url": s.URL + "/hook"}, s.settings(nil)
			if kind == "telegram" {
				secrets, settings = map[string]string{"token": "123:abc"}, s.settings(map[string]any{"chat_id": "-100", "url": s.URL})
			}
			n := open(t, kind, settings, secrets)
			all := []certctl.Notification{expiring("shop"), about(certctl.EventOrderRefused, map[string]any{"name": "mail", "code": "caa"})}
			ok(t, n.Notify(t.Context(), all))
			bodies := s.bodies()
			if len(bodies) != 1 {
				t.Fatalf("%d messages", len(bodies))
			}
			text, _ := bodies[0][field].(string)
			for _, part := range []string{"critical: certificate expires soon: shop", "in 20 hours", "2026-12-01 08:00 UTC", "error: order refused: mail", "reason caa"} {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in %q", part, text)
				}
			}
		})
	}
}

func TestTeamsGetsAnAdaptiveCard(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ok(t, open(t, "teams", s.settings(nil), map[string]string{"url": s.URL}).Notify(t.Context(), []certctl.Notification{expiring("shop")}))
	var body struct {
		Type        string
		Attachments []struct {
			ContentType string
			Content     struct {
				Type, Version string
				Body          []struct{ Type, Text, Color string }
			}
		}
	}
	if err := json.Unmarshal(s.requests[0].body, &body); err != nil {
		t.Fatal(err)
	}
	card := body.Attachments[0].Content
	if body.Type != "message" || body.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" || card.Type != "AdaptiveCard" ||
		card.Body[0].Color != "Attention" || !strings.Contains(card.Body[0].Text, "shop") {
		t.Errorf("%s", s.requests[0].body)
	}
}

// What a certificate is called must not become markup, a link or a mention.
func TestNamesAreNoMarkup(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ok(t, open(t, "slack", s.settings(nil), map[string]string{"url": s.URL}).Notify(t.Context(), []certctl.Notification{expiring("<!channel> & co")}))
	if text := s.bodies()[0]["text"].(string); strings.Contains(text, "<!channel>") || !strings.Contains(text, "&lt;!channel&gt; &amp; co") {
		t.Errorf("%q", text)
	}
}

func TestAThousandNotificationsFitIntoAMessage(t *testing.T) {
	t.Parallel()
	s := newService(t)
	all := make([]certctl.Notification, certctl.MaxDelivery)
	for i := range all {
		all[i] = expiring(fmt.Sprintf("certificate-with-quite-a-long-name-%d", i))
	}
	ok(t, open(t, "discord", s.settings(nil), map[string]string{"url": s.URL}).Notify(t.Context(), all))
	text := s.bodies()[0]["content"].(string)
	if len(text) > 2000 || !strings.Contains(text, "more: certctl notifications list") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

func TestPagerDutyTriggersAndResolvesOneIncident(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.status = http.StatusAccepted
	n := open(t, "pagerduty", s.settings(map[string]any{"url": s.URL + "/v2/enqueue"}), map[string]string{"routing_key": "R0123456789"})
	begin := about(certctl.EventDeploymentFailed, map[string]any{"name": "shop", "target": certctl.NewID(noon), "target_name": "web-1", "code": "check_failed"})
	end := begin
	end.Event.Name, end.Ends = certctl.EventDeploymentVerified, true
	other := begin
	other.Event.Object = certctl.NewID(noon)
	ok(t, n.Notify(t.Context(), []certctl.Notification{begin, end, other}))
	bodies := s.bodies()
	if len(bodies) != 3 {
		t.Fatalf("%d requests", len(bodies))
	}
	if bodies[0]["event_action"] != "trigger" || bodies[1]["event_action"] != "resolve" || bodies[0]["dedup_key"] != bodies[1]["dedup_key"] {
		t.Errorf("%v then %v", bodies[0], bodies[1])
	}
	if bodies[2]["dedup_key"] == bodies[0]["dedup_key"] {
		t.Error("another certificate has the same incident")
	}
	payload := bodies[0]["payload"].(map[string]any)
	if payload["severity"] != "error" || payload["summary"] != "installation failed: shop on web-1" || bodies[0]["routing_key"] != "R0123456789" {
		t.Errorf("%v", bodies[0])
	}
}

func TestOpsgenieCreatesAndClosesOneAlert(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.status = http.StatusAccepted
	n := open(t, "opsgenie", s.settings(map[string]any{"url": s.URL}), map[string]string{"api_key": "genie-key"})
	begin := about(certctl.EventIssuerDown, map[string]any{"name": "letsencrypt"})
	end := begin
	end.Event.Name, end.Ends = certctl.EventIssuerUp, true
	ok(t, n.Notify(t.Context(), []certctl.Notification{begin, end}))
	alias, _ := s.bodies()[0]["alias"].(string)
	if s.requests[0].path != "/v2/alerts" || alias == "" || s.requests[0].header.Get("Authorization") != "GenieKey genie-key" {
		t.Errorf("%+v", s.requests[0])
	}
	if want := "/v2/alerts/" + strings.ReplaceAll(alias, "/", "%2F") + "/close?identifierType=alias"; s.requests[1].path != want {
		t.Errorf("closed %s, want %s", s.requests[1].path, want)
	}
}

// The signature is checked by the library that receivers use.
func TestAWebHookIsSignedAsStandardWebhooksSay(t *testing.T) {
	t.Parallel()
	s := newService(t)
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	n := open(t, "webhook", s.settings(map[string]any{"url": s.URL + "/in"}), map[string]string{"secret": secret})
	told := expiring("shop")
	ok(t, n.Notify(t.Context(), []certctl.Notification{told}))
	ok(t, n.Notify(t.Context(), []certctl.Notification{told}))
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.requests {
		if err := verifier.Verify(r.body, r.header); err != nil {
			t.Error(err)
		}
	}
	if first, again := s.requests[0].header.Get("webhook-id"), s.requests[1].header.Get("webhook-id"); first != again || first == "" {
		t.Errorf("ids %q and %q of one notification", first, again)
	}
	var body struct {
		Type string
		Data certctl.Event
	}
	if err := json.Unmarshal(s.requests[0].body, &body); err != nil || body.Type != "certificate_expiring" || body.Data.ID != told.Event.ID {
		t.Errorf("%s %v", s.requests[0].body, err)
	}
	if err := verifier.Verify(append(slices.Clone(s.requests[0].body), ' '), s.requests[0].header); err == nil {
		t.Error("an altered body is taken for ours")
	}
}

func TestRefusalsTellWhatToDoNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   certctl.Code
	}{
		{400, certctl.Invalid}, {413, certctl.Invalid}, {401, certctl.Unavailable}, {404, certctl.Unavailable}, {429, certctl.RateLimited},
		{500, certctl.Unavailable}, {302, certctl.Unavailable},
	} {
		s := newService(t)
		s.status, s.answer = c.status, "no, not at "+s.URL+"/secret-path"
		s.header.Set("Retry-After", "90")
		s.header.Set("Location", s.URL+"/elsewhere")
		errs := open(t, "slack", s.settings(nil), map[string]string{"url": s.URL + "/secret-path"}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
		if certctl.ErrorCode(errs[0]) != c.code {
			t.Errorf("status %d: %v", c.status, errs[0])
		}
		if errs[0] == nil || strings.Contains(errs[0].Error(), "secret-path") {
			t.Errorf("the error tells the secret: %v", errs[0])
		}
		var e *certctl.Error
		if !errors.As(errs[0], &e) || e.RetryAfter != 90*time.Second {
			t.Errorf("status %d: retry after %+v", c.status, e)
		}
		if len(s.requests) != 1 {
			t.Errorf("status %d: %d requests", c.status, len(s.requests))
		}
	}
}

// A service that refuses one of many takes the others.
func TestOneRefusedNotificationIsNotAllOfThem(t *testing.T) {
	t.Parallel()
	s := newService(t)
	n := open(t, "slack", s.settings(nil), map[string]string{"url": s.URL})
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "poison") {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	errs := n.Notify(t.Context(), []certctl.Notification{expiring("one"), expiring("poison"), expiring("two")})
	if errs[0] != nil || certctl.ErrorCode(errs[1]) != certctl.Invalid || errs[2] != nil {
		t.Errorf("%v", errs)
	}
}

func TestAnUnreachableServiceKeepsItsURLSecret(t *testing.T) {
	t.Parallel()
	s := newService(t)
	settings, secret := s.settings(nil), s.URL+"/T000/B000/verysecret"
	s.Close()
	errs := open(t, "slack", settings, map[string]string{"url": secret}).Notify(t.Context(), []certctl.Notification{expiring("shop")})
	if certctl.ErrorCode(errs[0]) != certctl.Unavailable || strings.Contains(errs[0].Error(), "verysecret") {
		t.Errorf("%v", errs[0])
	}
}

// Without leave of the settings no channel leads into the private network, and
// never to a cloud's metadata.
func TestChannelsDoNotLeadInside(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, url := range []string{s.URL, "https://169.254.169.254/latest", "https://[fd00:ec2::254]/"} {
		errs := open(t, "webhook", map[string]any{"url": url}, map[string]string{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}).
			Notify(t.Context(), []certctl.Notification{expiring("shop")})
		if errs[0] == nil || !strings.Contains(errs[0].Error(), "private network") && !strings.Contains(errs[0].Error(), "never asked") {
			t.Errorf("%s: %v", url, errs[0])
		}
	}
	if len(s.requests) != 0 {
		t.Error("the service was reached")
	}
}

func TestSettingsAreRefusedWithTheirFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, settings, field string }{
		{"carrier-pigeon", `{}`, "/kind"},
		{"slack", `{"url": "https://hooks.example.com"}`, "/settings/url"},
		{"slack", `{"to": ["a@example.com"]}`, "/settings/to"},
		{"slack", `{"ca_bundle": "nothing"}`, "/settings/ca_bundle"},
		{"webhook", `{}`, "/settings/url"},
		{"webhook", `{"url": "http://example.com"}`, "/settings/url"},
		{"webhook", `{"url": "https://user:pass@example.com"}`, "/settings/url"},
		{"telegram", `{}`, "/settings/chat_id"},
		{"email", `{}`, "/settings/to"},
		{"email", `{"to": ["nobody"]}`, "/settings/to/0"},
		{"email", `{"to": ["a@example.com"], "port": 25}`, "/settings/host"},
		{"email", `{"to": ["a@example.com"], "host": "mx", "tls": "none", "username": "u"}`, "/settings/tls"},
	} {
		var e *certctl.Error
		err := (notifier.Kinds{}).Validate(c.kind, json.RawMessage(c.settings))
		if !errors.As(err, &e) || len(e.Fields) == 0 || e.Fields[0].Field != c.field {
			t.Errorf("%s %s: %v", c.kind, c.settings, err)
		}
	}
	for _, c := range []struct {
		kind    string
		secrets map[string]string
		field   string
	}{
		{"slack", nil, "/secrets/url"},
		{"slack", map[string]string{"url": "http://plain.example.com"}, "/secrets/url"},
		{"slack", map[string]string{"url": "https://ok.example.com", "password": "x"}, "/secrets/password"},
		{"webhook", map[string]string{"secret": "short"}, "/secrets/secret"},
	} {
		err := (notifier.Kinds{}).CheckSecrets(c.kind, c.secrets, true)
		var e *certctl.Error
		if !errors.As(err, &e) || len(e.Fields) == 0 || e.Fields[0].Field != c.field {
			t.Errorf("%s %v: %v", c.kind, c.secrets, err)
		}
	}
	if err := (notifier.Kinds{}).CheckSecrets("slack", nil, false); err != nil {
		t.Errorf("an update without secrets: %v", err)
	}
}

// Who is told one by one and has no time left is told the rest later.
func TestWhatThereIsNoTimeForIsNotAFailure(t *testing.T) {
	t.Parallel()
	s := newService(t)
	n := open(t, "webhook", s.settings(map[string]any{"url": s.URL}), map[string]string{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	errs := n.Notify(ctx, []certctl.Notification{expiring("one"), expiring("two")})
	if errs[0] != nil || errs[1] != certctl.ErrNotTried { //nolint:errorlint // it is this very value
		t.Errorf("%v", errs)
	}
}
