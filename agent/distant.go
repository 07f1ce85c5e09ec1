package agent

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// Bounds of what distant targets are asked beside the agent's work.
const (
	distantLook    = 30 * time.Second // for one binding
	distantRecover = 5 * time.Minute  // for one target
)

// Distant is a target that others keep, who may take their time to answer or never
// do: it is recovered and looked at beside the agent's other work, so that nothing
// waits for them. Its methods may be called at the same time.
type Distant interface {
	Inspector
	// InspectWithin is Inspect, as long as the context lasts.
	InspectWithin(ctx context.Context, place string, slot certctl.Slot, fingerprint, spki certctl.Digest) error
}

func isDistant(target Target) bool {
	_, is := target.(Distant)
	return is
}

// watchDistant lets distant targets end what was left half done, and looks at them now
// and then.
func (a *Agent) watchDistant(ctx context.Context) error {
	a.recover(ctx, true)
	for {
		if a.inspect(ctx, true) {
			a.drift.tell()
		}
		if !sleep(ctx, a.driftEvery) {
			return ctx.Err()
		}
	}
}

// recoverOne bounds a distant target, for the sake of the next.
func (a *Agent) recoverOne(ctx context.Context, target Target) error {
	if isDistant(target) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, distantRecover)
		defer cancel()
	}
	return target.Recover(ctx)
}

// inspectOne looks at one binding. A distant target that lets its time pass is silent
// from then on.
func (a *Agent) inspectOne(ctx context.Context, inspector Inspector, record bindingRecord, silent map[certctl.ID]bool) error {
	distant, is := inspector.(Distant)
	if !is {
		return inspector.Inspect(record.Place, record.Slot, record.Fingerprint, record.Keys[0].SPKI)
	}
	if silent[record.Target] {
		return certctl.Errorf(certctl.Unavailable, "the target does not answer")
	}
	ctx, cancel := context.WithTimeout(ctx, distantLook)
	defer cancel()
	err := distant.InspectWithin(ctx, record.Place, record.Slot, record.Fingerprint, record.Keys[0].SPKI)
	if ctx.Err() != nil {
		silent[record.Target] = true
		return certctl.Errorf(certctl.Unavailable, "the target does not answer in time")
	}
	return err
}
