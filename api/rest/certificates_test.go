package rest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"testing"
)

type certificate struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	DNS    []string `json:"dns_names"`
	Status struct {
		State  string `json:"state"`
		Orders []struct {
			URL string `json:"url"`
		} `json:"orders"`
	} `json:"status"`
}

func csr(t *testing.T, names ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestASubmissionIsAnsweredWithWhatWasRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made, read certificate
	a := w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "mail", "issuer": "local", "csr": csr(t, "mail.example.com")}).
		want(http.StatusCreated).into(&made)
	if made.Status.State != "pending" || len(made.Status.Orders) != 1 || !slices.Equal(made.DNS, []string{"mail.example.com"}) {
		t.Errorf("made %s", a.body)
	}
	w.as(http.MethodGet, a.header.Get("Location"), nil).want(http.StatusOK).into(&read)
	w.as(http.MethodGet, "/api/v1/certificates/mail", nil).want(http.StatusOK)
	w.as(http.MethodGet, made.Status.Orders[0].URL, nil).want(http.StatusOK)
	if read.ID != made.ID {
		t.Errorf("read %+v", read)
	}
	chain := w.as(http.MethodGet, "/api/v1/certificates/mail/chain.pem?wait=10ms", nil).want(http.StatusServiceUnavailable)
	if chain.header.Get("Retry-After") == "" {
		t.Error("nothing says when to come back")
	}
}

// Bad input gets a clear 4xx that names the field, and changes nothing.
func TestBadSubmissionsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.count(`select count(*) from event`)
	long := `{"name":"x","issuer":"local","owner":"` + strings.Repeat("a", 1<<20) + `"}`
	for name, test := range map[string]struct {
		body   string
		status int
		field  string
	}{
		"no JSON":              {`{"name"`, 400, ""},
		"nothing":              {``, 400, ""},
		"an array":             {`[]`, 400, "/"},
		"something after it":   {`{"name":"x","issuer":"local","dns_names":["a.example.com"]} {}`, 400, ""},
		"a key twice":          {`{"name":"x","name":"y","issuer":"local"}`, 400, "/name"},
		"an unknown field":     {`{"name":"x","issuer":"local","dns_names":["a.example.com"],"dnsnames":["b.example.com"]}`, 400, "/"},
		"a wrong type":         {`{"name":"x","issuer":"local","dns_names":"a.example.com"}`, 400, "/dns_names"},
		"no name":              {`{"issuer":"local","dns_names":["a.example.com"]}`, 400, "/name"},
		"a name like an id":    {`{"name":"01a20a0b-8564-7000-88ab-bd23754493f7","issuer":"local","dns_names":["a.example.com"]}`, 400, "/name"},
		"no names at all":      {`{"name":"x","issuer":"local"}`, 400, "/dns_names"},
		"a bad DNS name":       {`{"name":"x","issuer":"local","dns_names":["a.example.com","not a name"]}`, 400, "/dns_names/1"},
		"a bad address":        {`{"name":"x","issuer":"local","ip_addresses":["300.0.0.1"]}`, 400, "/ip_addresses/0"},
		"a name not allowed":   {`{"name":"x","issuer":"local","uris":["spiffe://example.com/a"]}`, 400, "/uris"},
		"an unknown issuer":    {`{"name":"x","issuer":"nobody","dns_names":["a.example.com"]}`, 400, "/issuer"},
		"an unknown profile":   {`{"name":"x","issuer":"local","profile":"nobody","dns_names":["a.example.com"]}`, 400, "/profile"},
		"an unknown target":    {`{"name":"x","issuer":"local","targets":["nobody"],"dns_names":["a.example.com"]}`, 400, "/targets/0"},
		"a CSR that is none":   {`{"name":"x","issuer":"local","csr":"hello"}`, 400, "/csr"},
		"issuer and issuers":   {`{"name":"x","issuer":"local","issuers":["local"],"dns_names":["a.example.com"]}`, 400, "/issuer"},
		"a body that is large": {long, 413, ""},
	} {
		a := w.as(http.MethodPost, "/api/v1/certificates", test.body)
		if a.status != test.status {
			t.Errorf("%s: status %d: %s", name, a.status, a.body)
			continue
		}
		p := a.refusal()
		if test.field != "" && !slices.ContainsFunc(p.Errors, func(e struct {
			Field string `json:"field"`
		},
		) bool {
			return e.Field == test.field
		}) {
			t.Errorf("%s: no field %s in %s", name, test.field, a.body)
		}
	}
	if a := w.as(http.MethodPost, "/api/v1/certificates", `{}`, "Content-Type", "text/plain"); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("text: %d", a.status)
	}
	if a := w.as(http.MethodGet, "/api/v1/certificates?stauts=active", nil); a.status != http.StatusBadRequest || len(a.refusal().Errors) != 1 {
		t.Errorf("a misspelt parameter: %d %s", a.status, a.body)
	}
	if n := w.count(`select count(*) from certificate`); n != 0 {
		t.Errorf("%d certificates", n)
	}
	if n := w.count(`select count(*) from event`); n != before {
		t.Errorf("%d events, before %d", n, before)
	}
}

func TestARepeatedRequestIsHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := map[string]any{"name": "shop", "issuer": "local", "csr": csr(t, "shop.example.com")}
	var first, second certificate
	w.as(http.MethodPost, "/api/v1/certificates", body, "Idempotency-Key", "k1").want(http.StatusCreated).into(&first)
	w.as(http.MethodPost, "/api/v1/certificates", body, "Idempotency-Key", "k1").want(http.StatusCreated).into(&second)
	if first.ID != second.ID || w.count(`select count(*) from certificate`) != 1 {
		t.Errorf("%s and %s", first.ID, second.ID)
	}
	body["name"] = "other"
	w.as(http.MethodPost, "/api/v1/certificates", body, "Idempotency-Key", "k1").want(http.StatusUnprocessableEntity)
	body["name"] = "shop"
	w.as(http.MethodPost, "/api/v1/certificates", body).want(http.StatusConflict)
}

func TestAChangeForAnOlderStateIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "shop", "issuer": "local", "key_mode": "csr", "dns_names": []string{"a.example.com"}}).
		want(http.StatusCreated)
	patch := map[string]any{"dns_names": []string{"b.example.com"}}
	b := w.as(http.MethodPatch, "/api/v1/certificates/shop", patch, "If-Match", a.header.Get("ETag")).want(http.StatusOK)
	if b.header.Get("ETag") == a.header.Get("ETag") {
		t.Error("the revision has not risen")
	}
	w.as(http.MethodPatch, "/api/v1/certificates/shop", patch, "If-Match", a.header.Get("ETag")).want(http.StatusPreconditionFailed)
	w.as(http.MethodPatch, "/api/v1/certificates/shop", patch, "If-Match", "nonsense").want(http.StatusBadRequest)
}

func TestOfManyABadOneFailsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list struct {
		Items []struct {
			Certificate *certificate `json:"certificate"`
			Problem     *problem     `json:"problem"`
		} `json:"items"`
	}
	item := func(name, dns string) map[string]any {
		return map[string]any{"name": name, "issuer": "local", "key_mode": "csr", "dns_names": []string{dns}}
	}
	w.as(http.MethodPost, "/api/v1/bulk/certificates", map[string]any{"items": []any{
		item("a", "a.example.com"), item("b", "not a name"), item("c", "c.example.com"), item("a", "a.example.com"),
	}}).want(http.StatusOK).into(&list)
	for i, good := range []bool{true, false, true, false} {
		got := list.Items[i]
		if (got.Certificate != nil && got.Certificate.ID != "") != good || (got.Problem != nil && got.Problem.Status != 0) == good {
			t.Errorf("item %d: %+v", i, got)
		}
	}
	if n := w.count(`select count(*) from certificate`); n != 2 {
		t.Errorf("%d certificates", n)
	}
}
