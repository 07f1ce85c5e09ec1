//go:build alldns

package legodns

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/handlers/issuer/acme"
)

// Lego has every provider of the table in this build, and asks nobody while one is
// made without its secrets.
func TestThisBuildHasAllProviders(t *testing.T) { //nolint:paralleltest // it changes the process's environment
	n := 0
	for _, p := range acme.LegoProviders() {
		if err := environment(acme.DNSCall{Provider: p.Name}); err != nil {
			t.Fatal(err)
		}
		if _, err := open(p.Name); err != nil && (strings.Contains(err.Error(), "unrecognized DNS provider") || strings.Contains(err.Error(), "dial")) {
			t.Errorf("%s: %v", p.Name, err)
		}
		n++
	}
	if n < 120 {
		t.Errorf("%d providers", n)
	}
}
