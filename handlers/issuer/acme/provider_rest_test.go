package acme

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// vendor is the part of a vendor's API that a provider uses, as it is published:
// records of one zone, of which a list says what there is.
type vendor struct {
	mu      sync.Mutex
	records map[int]map[string]any
	next    int
	calls   []string
}

func newVendor() *vendor { return &vendor{records: map[int]map[string]any{}, next: 1} }

func (v *vendor) add(record map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.records[v.next] = record
	v.next++
}

// contents are the values of a name, under whatever key the vendor has them.
func (v *vendor) contents(key string) (all []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.records {
		text, _ := r[key].(string)
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

func (v *vendor) serve(w http.ResponseWriter, r *http.Request, prefix string, list func([]map[string]any) any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, r.Method)
	switch r.Method {
	case http.MethodGet:
		found := []map[string]any{}
		for id, record := range v.records {
			entry := map[string]any{"id": any(id)}
			for key, value := range record {
				entry[key] = value
			}
			found = append(found, entry)
		}
		_ = json.NewEncoder(w).Encode(list(found))
	case http.MethodPost:
		var record map[string]any
		_ = json.NewDecoder(r.Body).Decode(&record)
		v.records[v.next] = record
		v.next++
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		id, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, prefix+"/"))
		delete(v.records, id)
		w.WriteHeader(http.StatusNoContent)
	}
}

func authorized(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") != "Bearer the-token" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":[{"message":"Authentication error"}]}`))
		return false
	}
	return true
}

// Presenting and removing may be repeated, by providers that know nothing of each
// other, and touch one value.
func conform(t *testing.T, open func(token string) provider, v *vendor, key, theirs string) {
	t.Helper()
	p := proof{Name: "*.shop.example.com", Record: "_acme-challenge.shop.example.com", Value: "the-value"}
	other := proof{Name: "shop.example.com", Record: p.Record, Value: "other-value"}
	for _, one := range []proof{p, other, p} {
		if err := open("the-token").Present(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	if all := v.contents(key); len(all) != 3 {
		t.Errorf("the record holds %q", all)
	}
	for range 2 {
		if err := open("the-token").Remove(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	all := v.contents(key)
	if len(all) != 2 || !slices.Contains(all, theirs) || strings.Trim(all[0], `"`) != "other-value" && strings.Trim(all[1], `"`) != "other-value" {
		t.Errorf("the record holds %q", all)
	}
	if err := open("another").Present(t.Context(), p); err == nil || !strings.Contains(err.Error(), "status 403") || !strings.Contains(err.Error(), "Authentication") {
		t.Errorf("with a wrong token: %v", err)
	}
	if err := open("the-token").Present(t.Context(), proof{Record: "_acme-challenge.example.org", Value: "v"}); err == nil || !strings.Contains(err.Error(), "_acme-challenge.example.org") {
		t.Errorf("in a foreign zone: %v", err)
	}
}

func TestCloudflare(t *testing.T) {
	t.Parallel()
	v := newVendor()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const records = "/zones/z1/dns_records"
		switch {
		case !authorized(w, r):
		case r.URL.Path == "/zones" && r.URL.Query().Get("name") == "example.com":
			_, _ = w.Write([]byte(`{"success":true,"result":[{"id":"z1","name":"example.com"}]}`))
		case r.URL.Path == "/zones":
			_, _ = w.Write([]byte(`{"success":true,"result":[]}`))
		default:
			v.serve(w, r, records, func(found []map[string]any) any {
				for _, f := range found {
					f["id"] = strconv.Itoa(f["id"].(int)) //nolint:forcetypeassert // as vendor makes it
				}
				return map[string]any{"success": true, "result": found}
			})
		}
	}))
	defer server.Close()
	const theirs = `"v=spf1 -all"`
	v.add(map[string]any{"type": "TXT", "name": "_acme-challenge.shop.example.com", "content": theirs})
	conform(t, func(token string) provider {
		return cloudflare{rest{server.Client(), "Cloudflare", server.URL, token}}
	}, v, "content", theirs)
}

func TestDigitalOcean(t *testing.T) {
	t.Parallel()
	v := newVendor()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const records = "/domains/example.com/records"
		switch {
		case !authorized(w, r):
		case strings.HasPrefix(r.URL.Path, records):
			v.serve(w, r, records, func(found []map[string]any) any { return map[string]any{"domain_records": found} })
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"id":"not_found"}`))
		}
	}))
	defer server.Close()
	v.add(map[string]any{"type": "TXT", "name": "_acme-challenge.shop", "data": "theirs"})
	conform(t, func(token string) provider {
		return digitalOcean{rest{server.Client(), "DigitalOcean", server.URL, token}}
	}, v, "data", "theirs")
	if len(v.records) != 2 || v.records[3]["name"] != "_acme-challenge.shop" {
		t.Errorf("%v", v.records)
	}
}

func TestProvidersWithoutTheirToken(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"cloudflare", "digitalocean"} {
		kind, known := providerKind(name)
		if !known {
			t.Fatalf("no %s", name)
		}
		if _, err := kind.open(&CA{}, nil); err == nil || !strings.Contains(err.Error(), "is not set") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
