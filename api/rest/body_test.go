package rest

import (
	"encoding/json"
	"testing"
)

// Whatever passes is JSON that every reader understands alike.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"a":2}`, `{"a":{"b":[1,{"c":null}]}}`, `[1,2]x`, `"`, `{"a":`, "\x00", `1e999`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkJSON(body) == nil && !json.Valid(body) {
			t.Errorf("passed: %q", body)
		}
	})
}
