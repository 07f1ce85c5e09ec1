package agent

import "github.com/certctl/certctl"

// Place is where a certificate is bound at a target.
type Place struct {
	Name string
	Slot certctl.Slot
}

// Binder is a target of which this process hands out the certificates itself: those of
// the places that are bound to it, and no others. Its methods wait for nobody.
type Binder interface {
	// Bind says which places are bound, before anything else is asked of the target.
	// From then on it knows by what it applies and forgets.
	Bind(places []Place)
	// Close ends what it hands out, for good.
	Close() error
}

// bind tells a target that was just opened what is bound to it.
func (a *Agent) bind(id certctl.ID, target Target) {
	binder, ok := target.(Binder)
	if !ok {
		return
	}
	var places []Place
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if a.journal.Get(key, &record) && record.Target == id && !record.Forgotten && !record.Version.IsZero() && record.Place != "" {
			places = append(places, Place{record.Place, record.Slot})
		}
	}
	binder.Bind(places)
}

// unserve ends what a target hands out by a description that holds no more.
func (a *Agent) unserve(id certctl.ID, target Target) {
	binder, ok := target.(Binder)
	if !ok {
		return
	}
	if err := binder.Close(); err != nil {
		a.log.Warn().Stringer("target", id).Err(err).Msg("target not closed")
	}
}

// closeTargets ends what all targets hand out.
func (a *Agent) closeTargets() {
	a.openMu.Lock()
	defer a.openMu.Unlock()
	for id, known := range a.opened {
		a.unserve(id, known.target)
	}
	clear(a.opened)
}
