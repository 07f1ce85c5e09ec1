package handlers_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// given makes another issuer at the same server, with the key of an account.
func (w *acmeWorld) given(name string, pkcs8 []byte) certctl.Issuer {
	w.t.Helper()
	settings := acme.Settings{Directory: w.pebble.Directory, Terms: true, CABundle: w.pebble.CABundle, Private: true}
	encoded, err := json.Marshal(settings)
	w.must(err)
	account := &certctl.ExternalAccount{ID: certctl.NewID(time.Now()), Directory: settings.Directory, Given: true}
	account.SealedKey, err = w.secrets.Seal("external_account", account.ID, "sealed_key", pkcs8)
	w.must(err)
	made, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{
		Name: name, Kind: acme.Kind, Settings: encoded, Trust: certctl.TrustPublic, Account: account,
	})
	w.must(err)
	return made
}

func pkcs8Of(t *testing.T, algorithm certctl.KeyAlgorithm) []byte {
	t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An account that another client has registered is found by its key.
func TestAGivenAccountIsUsed(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	c, _ := w.orderFor("first", "first.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	registered, err := w.ExternalAccount(w.ctx, w.ca.ID, w.pebble.Directory)
	w.must(err)
	der, err := w.secrets.Open("external_account", registered.ID, "sealed_key", registered.SealedKey)
	w.must(err)
	key, err := x509.ParseECPrivateKey(der)
	w.must(err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	w.must(err)
	issuer := w.given("moved", der)
	c = w.orderAt("moved", "second", "second.example.com")
	w.until("issued through the given account", always(r), w.issued(c))
	found, err := w.ExternalAccount(w.ctx, issuer.ID, w.pebble.Directory)
	w.must(err)
	if found.URL != registered.URL || !found.Given {
		t.Errorf("the account is %+v, want %s", found, registered.URL)
	}
	if n := w.pebble.Accounts(); n != 1 {
		t.Errorf("%d accounts are made", n)
	}
	// What the CA has confirmed stays.
	again := certctl.ExternalAccount{ID: certctl.NewID(time.Now()), Directory: w.pebble.Directory, SealedKey: []byte("another")}
	if _, err := w.UpdateIssuer(w.ctx, w.admin, "moved", certctl.IssuerRequest{
		Name: "moved", Kind: acme.Kind, Settings: issuer.Settings, Account: &again,
	}); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("another account is taken: %v", err)
	}
	w.clean()
}

// A key that the CA does not know makes no account; another one can be given.
func TestAGivenAccountThatTheCADoesNotKnowIsNotMade(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	issuer := w.given("moved", pkcs8Of(t, certctl.RSA2048))
	c := w.orderAt("moved", "shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("it is refused", always(r), func() bool { return strings.Contains(w.order(c).Message, "has no account with the key") })
	if n := w.pebble.Accounts(); n != 0 {
		t.Errorf("%d accounts are made", n)
	}
	stored, err := w.ExternalAccount(w.ctx, issuer.ID, w.pebble.Directory)
	w.must(err)
	corrected := certctl.ExternalAccount{ID: certctl.NewID(time.Now()), Directory: w.pebble.Directory, SealedKey: []byte("another")}
	if _, err := w.UpdateIssuer(w.ctx, w.admin, "moved", certctl.IssuerRequest{
		Name: "moved", Kind: acme.Kind, Settings: issuer.Settings, Account: &corrected,
	}); err != nil {
		t.Fatal(err)
	}
	if now, err := w.ExternalAccount(w.ctx, issuer.ID, w.pebble.Directory); err != nil || now.ID == stored.ID {
		t.Errorf("the account is not replaced: %+v, %v", now, err)
	}
}

// A binding that a service gives to anybody is fetched when the account is made,
// and not before or again; what the service refuses is said and tried again.
func TestABindingIsFetched(t *testing.T) {
	t.Parallel()
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	answers := make(chan string, 3)
	answers <- `{"success": false, "error": {"code": 2900, "type": "no_such_user"}}`
	answers <- `{"success": true, "eab_kid": "kid-1"}`
	answers <- `{"success": true, "eab_kid": "kid-1", "eab_hmac_key": "` + key + `"}`
	var asked atomic.Int64
	service := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodPost || r.FormValue("email") != "ops@example.com" {
			t.Errorf("%s %v", r.Method, r.Form)
		}
		_, _ = rw.Write([]byte(<-answers))
	}))
	defer service.Close()
	w := newACME(t, acmetest.Options{EAB: map[string]string{"kid-1": key}}, func(s *acme.Settings) {
		s.EABService = service.URL + "/acme/eab-credentials-email"
		s.CABundle += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}))
	})
	shop, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("refused", always(r), func() bool { return w.order(shop).ErrorCode == "acme_eab_service" })
	if o := w.order(shop); !strings.Contains(o.Message, "no_such_user") || w.pebble.Accounts() != 0 {
		t.Errorf("%q, %d accounts", o.Message, w.pebble.Accounts())
	}
	w.until("issued", always(r), w.issued(shop))
	again, _ := w.orderFor("again", "again.example.com")
	w.until("issued", always(w.worker("b", immortal)), w.issued(again))
	if n := asked.Load(); n != 3 || w.pebble.Accounts() != 1 {
		t.Errorf("the service was asked %d times for %d accounts", n, w.pebble.Accounts())
	}
	w.clean()
}
