package agent

import (
	"slices"

	"github.com/certctl/certctl"
)

// Place is where a certificate is bound at a target.
type Place struct {
	Name    string
	Slot    certctl.Slot
	Binding certctl.ID
}

// Binder is a target of which this process hands out the certificates itself: those of
// the places that are bound to it, and no others. Its methods wait for nobody.
type Binder interface {
	// Bind says who knows which places are bound, before anything else is asked of the
	// target. What it applies and forgets is journalled after that, and comes first.
	Bind(places func() []Place)
	// Close ends what it hands out, for good.
	Close() error
}

// bind tells a target that was just opened how it learns what is bound to it: from the
// journal as it is when it asks, since what is being installed while it is opened is
// not there yet.
func (a *Agent) bind(id certctl.ID, target Target) {
	if binder, ok := target.(Binder); ok {
		binder.Bind(func() []Place { return a.placesOf(id) })
	}
}

// placesOf are the places of a target at which something is in place.
func (a *Agent) placesOf(id certctl.ID) (places []Place) {
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if a.journal.Get(key, &record) && record.Target == id && !record.Forgotten && !record.Version.IsZero() && record.Place != "" {
			places = append(places, Place{record.Place, record.Slot, idOf(key)})
		}
	}
	return places
}

// isTaken reports whether the place of a binding that ends is another's already: then
// what is there is not to be taken away.
func (a *Agent) isTaken(forget *certctl.ForgetCommand) bool {
	return slices.ContainsFunc(a.placesOf(forget.Target), func(p Place) bool {
		return p.Name == forget.Place && p.Slot == forget.Slot && p.Binding != forget.Binding
	})
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
