package agent

import (
	"time"

	"github.com/certctl/certctl"
)

// How long things are kept that nothing else ends.
const (
	keepOrders    = 100 * certctl.Day // a key whose leaf has not come: no CA takes longer
	keepForgotten = 400 * certctl.Day // the number of a forgotten binding: no command lives as long
	keepOldKeys   = 7 * certctl.Day   // after notAfter: the key of a previous generation
)

// tidyNowAndThen tidies for the sake of what ends by the clock.
func (a *Agent) tidyNowAndThen() {
	if a.state.tidyDue(a.now()) {
		a.tidy()
		a.dropOldProofs()
	}
}

// tidy removes records that have served, and erases the keys that neither an
// open order nor a generation nor the next renewal needs: the current one's key is kept as long as
// the binding lives, the previous one's, and with it its generation, until 7 days after its leaf has
// ended.
// While keys are in use it leaves that to the next time, since waiting here
// would make the other targets wait, too.
func (a *Agent) tidy() {
	a.eraseOldGenerations()
	if !a.keysInUse.TryLock() {
		return
	}
	defer a.keysInUse.Unlock()
	needed := map[certctl.Digest]bool{}
	tidied := a.commit(func() []Change {
		changes := append(a.tidyOrders(a.now(), needed), a.tidyBindings(a.now(), needed)...)
		return append(changes, a.tidyNextKeys(needed)...)
	})
	if !tidied {
		return
	}
	erased, err := a.store.Retain(func(spki certctl.Digest) bool { return needed[spki] })
	if err != nil {
		a.problem("keys", err)
	}
	if erased > 0 {
		a.log.Info().Int("keys", erased).Msg("keys erased that nothing needs")
	}
}

func (a *Agent) tidyOrders(now time.Time, needed map[certctl.Digest]bool) []Change {
	var changes []Change
	for _, key := range a.journal.Keys("order/") {
		var record orderRecord
		switch {
		case !a.journal.Get(key, &record):
		case now.Sub(record.Asked) > keepOrders:
			changes = append(changes, Change{key, nil})
		case !record.Claimed:
			needed[record.SPKI] = true
		}
	}
	return changes
}

func (a *Agent) tidyBindings(now time.Time, needed map[certctl.Digest]bool) []Change {
	var changes []Change
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		switch {
		case !a.journal.Get(key, &record):
		case record.Forgotten && now.Sub(record.At) > keepForgotten:
			changes = append(changes, Change{key, nil})
		case !record.Forgotten:
			needed[record.Pending] = true
			for i, use := range record.Keys {
				if i == 0 || now.Before(use.NotAfter.Add(keepOldKeys)) {
					needed[use.SPKI] = true
				}
			}
		}
	}
	return changes
}
