package rest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/notifier"
	"github.com/rs/zerolog"
)

// declare has the declarations made, and returns what was changed.
func (w *world) declare(all rest.Declarations) ([]string, error) {
	w.t.Helper()
	d := rest.NewDeclarer(rest.Config{
		Store: w.Store, Seal: w.seal, Issuers: issuer.Kinds{}, Channels: notifier.Kinds{}, Targets: targets{}, Now: time.Now, Log: zerolog.Nop(),
	}, w.Store)
	return d.Declare(w.t.Context(), all)
}

func raw(text string) []json.RawMessage { return []json.RawMessage{json.RawMessage(text)} }

// What is declared is made once, follows the declaration, and is otherwise left to
// whoever changes it.
func TestDeclarations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const hook = "https://hooks.example.com/services/secret-part"
	all := rest.Declarations{
		"issuers":  raw(`{"name": "acme", "kind": "acme", "settings": {"directory": "letsencrypt-staging", "terms_of_service_agreed": true, "contact": ["ops@example.com"]}}`),
		"channels": raw(`{"name": "ops", "kind": "slack", "secrets": {"url": "` + hook + `"}, "rules": [{"severity": "error"}]}`),
		"profiles": raw(`{"name": "short", "validity": "7d", "key_algorithms": ["ecdsa-p256"], "extended_key_usages": ["server_auth"], "name_rules": {"dns": true}}`),
	}
	changed, err := w.declare(all)
	if err != nil || !slices.Equal(changed, []string{"profiles/short", "issuers/acme", "channels/ops"}) {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if changed, err = w.declare(all); err != nil || len(changed) != 0 {
		t.Errorf("again: changed %v, %v", changed, err)
	}
	// Somebody changes it: that stays.
	w.as(http.MethodPut, "/api/v1/channels/ops", map[string]any{"name": "ops", "kind": "slack", "rules": []any{map[string]any{"severity": "info"}}}).want(http.StatusOK)
	if changed, err = w.declare(all); err != nil || len(changed) != 0 {
		t.Errorf("after somebody's change: changed %v, %v", changed, err)
	}
	// The declaration changes, in a secret alone.
	all["channels"] = raw(strings.Replace(string(all["channels"][0]), "secret-part", "other-part", 1))
	if changed, err = w.declare(all); err != nil || !slices.Equal(changed, []string{"channels/ops"}) {
		t.Errorf("after its change: changed %v, %v", changed, err)
	}
	var shown struct{ Rules []struct{ Severity string } }
	w.as(http.MethodGet, "/api/v1/channels/ops", nil).want(http.StatusOK).into(&shown)
	if len(shown.Rules) != 1 || shown.Rules[0].Severity != "error" {
		t.Errorf("%+v", shown)
	}
	// What is gone is made again.
	w.as(http.MethodDelete, "/api/v1/channels/ops", nil).want(http.StatusNoContent)
	if changed, err = w.declare(all); err != nil || !slices.Equal(changed, []string{"channels/ops"}) {
		t.Errorf("after its end: changed %v, %v", changed, err)
	}
}

func TestWrongDeclarationsAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for want, all := range map[string]rest.Declarations{
		"agents":                     {"agents": raw(`{"name": "x"}`)},
		"with a name":                {"channels": raw(`{"kind": "slack"}`)},
		"channels, number 1 (ops)":   {"channels": raw(`{"name": "ops", "kind": "slack"}`)},
		`unknown field "colour"`:     {"channels": raw(`{"name": "ops", "kind": "slack", "colour": "red"}`)},
		"there is no kind of issuer": {"issuers": raw(`{"name": "x", "kind": "y"}`)},
	} {
		changed, err := w.declare(all)
		if certctl.ErrorCode(err) != certctl.Invalid || !strings.Contains(err.Error(), want) || len(changed) != 0 {
			t.Errorf("%s: changed %v, %v", want, changed, err)
		}
	}
}
