package store_test

import (
	"reflect"
	"testing"

	"github.com/certctl/certctl"
)

// What is remembered of an agent is as true as what is read, whatever changes.
func TestAgentsByIDSeesEveryChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, other := w.agent("one"), w.agent("other")
	same := func(after string) {
		t.Helper()
		fresh, err := w.GetAgent(t.Context(), w.admin, one.String())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // read, and remembered
			known, err := w.AgentsByID(t.Context(), []certctl.ID{one, {1}})
			if err != nil {
				t.Fatal(err)
			}
			if got := known[one]; len(known) != 1 || !reflect.DeepEqual(got, fresh) {
				t.Errorf("after %s: %+v, not %+v", after, got, fresh)
			}
		}
	}
	same("its enrolment")
	for what, sql := range map[string]string{
		"another state":    `update agent set state = 'conflict' where id = $1`,
		"another key":      `insert into agent_key (agent_id, kind, public) select id, 'signing', decode(repeat('ab', 32), 'hex') from agent where id = $1`,
		"another team":     `update team set name = 'renamed' where id = (select team_id from agent where id = $1)`,
		"its first report": `insert into agent_contact (agent_id, at, session) values ($1, now(), 7)`,
		"its next report":  `update agent_contact set at = now(), session = session + 1 where agent_id = $1`,
	} {
		w.exec(sql, one)
		if what == "another key" { // comes with the statement that vouches for it, always
			w.exec(`update agent set statement = '{"kind": "again"}' where id = $1`, one)
		}
		same(what)
		w.exec(`update agent set version = version || 'x' where id = $1`, other)
	}
	same("changes of another agent")
}
