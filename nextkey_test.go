package certctl_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// Agents and servers of the releases before know nothing of next keys: what they
// are sent is as it was.
func TestNextKeysAreAdditive(t *testing.T) {
	t.Parallel()
	for _, message := range []any{certctl.InstallCommand{}, certctl.Receipt{}} {
		text, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"next`) {
			t.Errorf("%T says %s", message, text)
		}
	}
}

func TestWhetherANextKeyFits(t *testing.T) {
	t.Parallel()
	names := certctl.Names{DNS: []string{"a.example.com"}}
	next := certctl.NextCSR{CSR: &certctl.CSR{Names: names, Algorithm: certctl.ECDSAP256}, Agent: certctl.ID{1}}
	profile := certctl.Profile{KeyAlgorithms: []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.RSA2048}}
	for want, c := range map[string]struct {
		names   certctl.Names
		profile certctl.Profile
		agent   certctl.ID
		blocked bool
	}{
		"":                     {names, profile, certctl.ID{1}, false},
		certctl.UnfitAgent:     {names, profile, certctl.ID{2}, false},
		certctl.UnfitBlocked:   {names, profile, certctl.ID{1}, true},
		certctl.UnfitNames:     {certctl.Names{DNS: []string{"b.example.com"}}, profile, certctl.ID{1}, false},
		certctl.UnfitReuse:     {names, certctl.Profile{KeyAlgorithms: profile.KeyAlgorithms, ReuseKey: true}, certctl.ID{1}, false},
		certctl.UnfitAlgorithm: {names, certctl.Profile{KeyAlgorithms: []certctl.KeyAlgorithm{certctl.RSA2048, certctl.ECDSAP256}}, certctl.ID{1}, false},
	} {
		if got := next.Unfit(c.names, c.profile, c.agent, c.blocked); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
