package store_test

import (
	"strings"
	"testing"
)

// No foreign key guards the tables in which each certificate has rows, and triggers
// copy what certificates are looked up by: both are proven by looking.
func TestRowsThatReferToNothingAreFound(t *testing.T) {
	t.Parallel()
	for change, broken := range map[string]string{
		`update certificate set policy_id = gen_random_uuid()`:                     "rows that refer to nothing",
		`update holder set certificate_id = gen_random_uuid()`:                     "rows that refer to nothing",
		`update cert_order set issuer_id = gen_random_uuid()`:                      "rows that refer to nothing",
		`update version set chain_digest = '\x00'`:                                 "rows that refer to nothing",
		`update deployment set agent_id = gen_random_uuid()`:                       "rows that refer to nothing",
		`update attempt set n = 0, order_id = gen_random_uuid()`:                   "rows that refer to nothing",
		`update certificate_state set status = 'expired'`:                          "certificates whose state",
		`delete from certificate_state`:                                            "certificates whose state",
		`insert into certificate_state values (gen_random_uuid(), 'active', null)`: "certificates whose state",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.target("web")
			c := w.submit(request("shop", "web"))
			w.issue(w.orders(c, "")[0])
			w.consistent()
			w.exec(change)
			for _, line := range w.broken() {
				if strings.Contains(line, broken) {
					return
				}
			}
			t.Errorf("after %q: %q", change, w.broken())
		})
	}
}
