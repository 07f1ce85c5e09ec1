package e2e

import (
	"net/http"
	"testing"
	"time"
)

// An agent is away while its certificate is renewed three times, each time with
// the key that it handed over with its last receipt. When it comes back it
// installs the newest leaf and no other, and hands over the key that follows.
func TestAnAgentThatWasAwayInstallsOnlyTheNewest(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("shop")
	s.Agent.Kill()
	for n := 2; n <= 4; n++ {
		// Half of its life has passed, as far as the sweep can tell.
		s.sql(`update version set created_at = created_at - interval '200 days', renew_at = now() - interval '1 second'
			where certificate_id = (select id from certificate where name = 'shop')`)
		s.sql(`update due set due_at = now() where kind = 'holder'
			and id in (select id from holder where certificate_id = (select id from certificate where name = 'shop'))`)
		s.eventually(time.Minute, "the next leaf while the agent is away", func() bool { return len(s.versions("shop")) == n })
	}
	versions := s.versions("shop")
	newest, first := versions[0], versions[3]
	for _, v := range versions[:3] {
		if v.SPKI != newest.SPKI || v.SPKI == first.SPKI {
			t.Errorf("version %s is for the key %s; %+v", v.ID, v.SPKI, versions)
		}
	}
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "the newest leaf is served", func() bool { return s.servedFingerprint("shop.example.com") == newest.Fingerprint })
	s.eventually(time.Minute, "it is recorded", func() bool { return s.certificate("shop").Status.State == "active" })
	var list struct {
		Items []struct {
			Version    string `json:"version"`
			State      string `json:"state"`
			VerifiedAt string `json:"verified_at"`
		} `json:"items"`
	}
	s.call(http.MethodGet, "/api/v1/deployments?certificate=shop", nil, &list)
	for _, d := range list.Items {
		want := "superseded"
		if d.Version == newest.ID || d.Version == first.ID {
			want = "verified"
		}
		if d.State != want || (want == "superseded") != (d.VerifiedAt == "") {
			t.Errorf("deployment %+v, want %s", d, want)
		}
	}
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(time.Minute, "a leaf for the key that follows", func() bool {
		versions := s.versions("shop")
		return len(versions) == 5 && versions[0].SPKI != newest.SPKI && s.servedFingerprint("shop.example.com") == versions[0].Fingerprint
	})
	checkDatabase(t, s.DatabaseURL)
}
