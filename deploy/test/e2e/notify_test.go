package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// From the command line to a program that listens, through the product as it is
// shipped.
func TestChannelsAreTold(t *testing.T) {
	t.Parallel()
	s := start(t)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	verifier, err := standardwebhooks.NewWebhook(secret)
	s.must(err)
	told := make(chan string, 100)
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event struct{ Type string }
		if err := verifier.Verify(body, r.Header); err != nil || json.Unmarshal(body, &event) != nil {
			t.Errorf("%s: %v", body, err)
		}
		told <- event.Type
	}))
	t.Cleanup(receiver.Close)
	bundle := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}))
	channel := fmt.Sprintf(`{"name": "automation", "kind": "webhook", "secrets": {"secret": %q}, "rules": [{"events": ["certificate_issued"]}],
		"settings": {"url": %q, "allow_private_networks": true, "ca_bundle": %q}}`, secret, receiver.URL, bundle)
	s.ok(channel, "channels", "create", "-f", "-")
	s.ok("", "notifications", "test", "automation")
	s.ok(newCSR(t, "mail.example.com"), "certificates", "create", "mail", "--issuer", "local", "--csr", "-", "--wait")
	for _, want := range []string{"channel_tested", "certificate_issued"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %s, want %s", got, want)
			}
		case <-t.Context().Done():
			t.Fatal("nobody tells")
		}
	}
	if table := s.ok("", "channels", "list"); !strings.Contains(table, "automation") || strings.Contains(table, secret) {
		t.Errorf("channels\n%s", table)
	}

	// A channel that cannot be reached says so, and what to do.
	receiver.Close()
	code, _, stderr := s.cli("", "notifications", "test", "automation")
	if code != 1 || !strings.Contains(stderr, "cannot be reached") || !strings.Contains(stderr, "notifications discard") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if table := s.ok("", "notifications", "list", "--state", "pending"); !strings.Contains(table, "test of a channel") {
		t.Errorf("pending\n%s", table)
	}
}
