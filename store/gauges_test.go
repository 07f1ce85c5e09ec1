package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
)

// measured returns the measures of now, by their label.
func (w *world) measured() map[store.Measure]map[string]float64 {
	w.t.Helper()
	gauges, err := w.Gauges(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[store.Measure]map[string]float64{}
	for _, g := range gauges {
		if got[g.Measure] == nil {
			got[g.Measure] = map[string]float64{}
		}
		got[g.Measure][g.Label] = g.Value
	}
	return got
}

func TestGaugesSayWhatIsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.submit(request("shop", "one"))
	w.clientOrder("mail")
	got := w.measured()
	if o := got[store.MeasureOrders]; o["holder_offline"] != 1 || o["ready"] != 1 {
		t.Errorf("orders %v", o)
	}
	if c := got[store.MeasureCertificates]; c["pending"] != 2 {
		t.Errorf("certificates %v", c)
	}
	if a := got[store.MeasureAgents]; a["active"] != 1 {
		t.Errorf("agents %v", a)
	}
	if _, ok := got[store.MeasureEventOutAge][""]; !ok {
		t.Error("no age of unpublished events")
	}
	if len(got[store.MeasureExpiry]) != 0 || got[store.MeasureServed]["more"] != 0 {
		t.Errorf("something is served: %v, %v", got[store.MeasureExpiry], got[store.MeasureServed])
	}
}

// What a target serves counts, and not the newest leaf that has not arrived.
func TestGaugesSayWhenWhatIsServedEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, _, next := w.handedOver("one")
	order := w.sweep(c)
	w.exec(`update version set not_before = now() - interval '70 days', not_after = now() + interval '20 days',
		renew_at = now() - interval '11 days' where certificate_id = $1`, c.ID)
	w.finish(w.keyed(w.begin("w", order.ID)[0], next, "one.example.com"))
	if n := w.count(`select count(*) from version where certificate_id = $1 and not_after > now() + interval '21 days'`, c.ID); n != 1 {
		t.Fatalf("%d newer leaves", n)
	}
	got := w.measured()
	if left := got[store.MeasureServed]; left["30d"] != 1 || left["90d"]+left["more"] != 0 {
		t.Errorf("what is left: %v", left)
	}
	expiry := got[store.MeasureExpiry]
	if len(expiry) != 1 {
		t.Fatalf("expiry by issuer: %v", expiry)
	}
	for issuer, at := range expiry {
		if left := time.Until(time.Unix(int64(at), 0)); issuer == "" || left < 19*certctl.Day || left > 21*certctl.Day {
			t.Errorf("what %s issued ends in %s", issuer, left)
		}
	}
}

// Who watches is told of nodes that are away, of CAs that are down, and of
// notifications that nobody got.
func TestGaugesSayWhatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	w.exec(`insert into agent_contact (agent_id, at) select id, now() - interval '1 hour' from agent where name = 'agent-one'
		on conflict (agent_id) do update set at = excluded.at`)
	w.exec(`update issuer set health = 'down', down_since = now()`)
	got := w.measured()
	if p := got[store.MeasurePresence]; p["offline"] != 1 || p["offline"]+p["online"]+p["never"] != 2 {
		t.Errorf("presence %v", p)
	}
	if up := got[store.MeasureIssuerUp]; len(up) == 0 {
		t.Error("no issuers")
	} else {
		for name, value := range up {
			if value != 0 {
				t.Errorf("%s is up", name)
			}
		}
	}
}
