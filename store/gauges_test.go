package store_test

import (
	"testing"

	"github.com/certctl/certctl/store"
)

func TestGaugesSayWhatIsOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.submit(request("shop", "one"))
	w.clientOrder("mail")
	gauges, err := w.Gauges(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[store.Measure]map[string]float64{}
	for _, g := range gauges {
		if got[g.Measure] == nil {
			got[g.Measure] = map[string]float64{}
		}
		got[g.Measure][g.Label] = g.Value
	}
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
}
