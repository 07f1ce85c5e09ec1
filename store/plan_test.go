package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
)

// A list must not walk the table, whether its statistics are of the time when it
// was empty or of now: what is counted is the rows that PostgreSQL read.
func TestListsReadLittleMoreThanTheyShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// One connection, so that it can be told to count what it has done.
	url := strings.Replace(w.Pool().Config().ConnString(), "?", "?pool_max_conns=1&", 1)
	if !strings.Contains(url, "?") {
		url += "?pool_max_conns=1"
	}
	s, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Store = s
	w.exec(`analyze`)
	w.target("one")
	w.submit(request("shop", "one"))
	const rows, most = 20_000, 2_000
	w.exec(`insert into certificate (id, team_id, name, dns, issuers, profile_id, policy_id, key_mode, status, not_after, labels)
		select gen_random_uuid(), team.id, 'x' || i, array['x' || i || '.example.com'], array[issuer.id], profile.id, renewal_policy.id,
			'csr', case when i % 1000 = 0 then 'degraded' else 'active' end, now() + i * interval '1 minute', jsonb_build_object('n', (i % 1000)::text)
		from team, issuer, profile, renewal_policy, generate_series(1, $1::int) i`, rows)
	read := func() int {
		w.exec(`select pg_stat_force_next_flush()`)
		return w.count(`select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname = 'certificate'`)
	}
	for _, when := range []string{"while empty", "now"} {
		for what, filter := range map[string]certctl.CertificateFilter{
			"all": {}, "status": {Status: certctl.StatusDegraded}, "issuer": {Issuer: "local"}, "target": {Target: "one"},
			"agent": {Agent: "agent-one"}, "label": {Label: map[string]string{"n": "77"}}, "name": {Name: "x777"}, "prefix": {Name: "x777*"},
			"query by name": {Query: "x7777.example.com"}, "query by serial": {Query: "0abc"}, "archived": {Archived: true},
			"team": {Team: certctl.DefaultTeam}, "expiring": {ExpiresBefore: time.Now().Add(time.Hour)},
		} {
			if when == "while empty" && (what == "issuer" || what == "expiring") {
				continue // whether these are rare or common, only statistics can tell
			}
			filter.Limit = 10
			before := read()
			w.names(w.admin, filter)
			if n := read() - before; n > most {
				t.Errorf("analysed %s, the list by %s read %d rows", when, what, n)
			}
		}
		before := read()
		for range 3 {
			if _, err := s.GetCertificate(t.Context(), w.admin, "x4711"); err != nil {
				t.Fatal(err)
			}
		}
		if n := read() - before; n > most {
			t.Errorf("analysed %s, finding a name read %d rows", when, n)
		}
		w.exec(`analyze`)
	}
}
