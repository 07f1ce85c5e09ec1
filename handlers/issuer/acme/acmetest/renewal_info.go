package acmetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// Suggest has the server suggest a window for the renewal of a leaf, in place of
// its own.
func (s *Server) Suggest(t testing.TB, leaf []byte, start, end time.Time, explanation string) {
	t.Helper()
	answer, err := json.Marshal(map[string]any{
		"suggestedWindow": map[string]time.Time{"start": start, "end": end}, "explanationURL": explanation,
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})), "ARIResponse": string(answer),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/set-renewal-info/", bytes.NewReader(body))
	r.Header.Set("User-Agent", "acmetest")
	s.management.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("the window is not taken: %d %s", w.Code, w.Body)
	}
}

// Replaced are the predecessors that the orders which were taken have named, by
// their identifiers of RFC 9773.
func (s *Server) Replaced() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.replaced)
}

// predecessor is what a request for an order says that it replaces; "" for any
// other request. The request can be read again.
func predecessor(r *http.Request) string {
	if r.URL.Path != NewOrder {
		return ""
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return ""
	}
	var signed struct{ Payload string }
	var order struct{ Replaces string }
	if json.Unmarshal(body, &signed) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
	if err != nil || json.Unmarshal(payload, &order) != nil {
		return ""
	}
	return order.Replaces
}
