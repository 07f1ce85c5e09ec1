package remote

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// depotTestTimeout bounds a test: listeners that do not answer take their time.
const depotTestTimeout = time.Minute

// depotLook bounds a look by who has set no time himself.
const depotLook = 30 * time.Second

// at is what is there at a place; nil for nothing.
func (t *depotTarget) at(ctx context.Context, place string, slot certctl.Slot) (*held, *depotNote, string, error) {
	name, err := depotName(place, slot)
	if err != nil {
		return nil, nil, "", err
	}
	n, err := t.note(name)
	if err != nil {
		return nil, nil, "", err
	}
	have, err := t.look(ctx, name, n)
	return have, n, name, err
}

// Inspect holds what is there against what was installed. Of the key nobody tells;
// the vendor took it with the leaf.
func (t *depotTarget) Inspect(place string, slot certctl.Slot, fingerprint, spki certctl.Digest) error {
	ctx, cancel := context.WithTimeout(context.Background(), depotLook)
	defer cancel()
	return t.InspectWithin(ctx, place, slot, fingerprint, spki)
}

// InspectWithin does so as long as the context lasts; see agent.Distant.
func (t *depotTarget) InspectWithin(ctx context.Context, place string, slot certctl.Slot, fingerprint, _ certctl.Digest) error {
	have, _, name, err := t.at(ctx, place, slot)
	switch code := certctl.ErrorCode(err); {
	case code == certctl.Denied || code == certctl.RateLimited:
		return certctl.Wrap(certctl.Unavailable, err, "%s cannot be looked at", name)
	case err != nil:
		return err
	case have == nil:
		return certctl.Errorf(certctl.Conflict, "the certificate of %s is gone", name)
	case have.facts.Fingerprint != fingerprint:
		return certctl.Errorf(certctl.Conflict, "%s is not the certificate that was installed", have.id)
	}
	return nil
}

// Read returns the leaf and the chain that are there.
func (t *depotTarget) Read(place string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), depotLook)
	defer cancel()
	have, _, name, err := t.at(ctx, place, slot)
	if err == nil && (have == nil || have.leaf == nil) {
		err = certctl.Errorf(certctl.NotFound, "there is no certificate of %s", name)
	}
	if err != nil {
		return nil, nil, err
	}
	return have.leaf, have.chain, nil
}

// Erase is a Conflict while the key is in service, or on its way. Otherwise it
// forgets what this node kept of it; the vendor has one key at a time, and is asked
// only about one that is kept here.
func (t *depotTarget) Erase(place string, slot certctl.Slot, spki certctl.Digest) error {
	name, err := depotName(place, slot)
	if err != nil {
		return err
	}
	if n, err := t.kept(name); err != nil || !n.Current.isFor(spki) && !n.Next.isFor(spki) {
		return err // nobody has to be asked
	}
	ctx, cancel := context.WithTimeout(context.Background(), depotLook)
	defer cancel()
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if n, err := t.kept(name); err != nil {
		return err
	} else if n.Where != t.where {
		return t.drop(name) // of a store that is another's business now
	}
	have, n, name, err := t.at(ctx, place, slot)
	if err != nil {
		return err
	}
	if have != nil && have.facts.SPKI == spki {
		return certctl.Errorf(certctl.Conflict, "%s has this key", have.id)
	}
	if n.Next.isFor(spki) {
		return certctl.Errorf(certctl.Conflict, "a change of %s that is not proven has this key", name)
	}
	if !n.Current.isFor(spki) {
		return nil
	}
	n.Current = nil
	return t.keep(name, n)
}

// isFor reports whether they are for a key.
func (c *contents) isFor(spki certctl.Digest) bool {
	if c == nil {
		return false
	}
	facts, err := certctl.ParseLeaf(c.Leaf)
	return err == nil && facts.SPKI == spki
}

// Forget ends the management of a binding, and what this node kept for the way back
// goes. What the vendor has stays, unless the command says otherwise, it is this
// target's, and nothing uses it.
func (t *depotTarget) Forget(ctx context.Context, command certctl.ForgetCommand) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	name, err := depotName(command.Place, command.Slot)
	if err != nil {
		return err
	}
	if command.Remove {
		if err := t.removeOwn(ctx, command); err != nil {
			return err
		}
	}
	return t.drop(name)
}

func (t *depotTarget) removeOwn(ctx context.Context, command certctl.ForgetCommand) error {
	have, _, _, err := t.at(ctx, command.Place, command.Slot)
	if err != nil || have == nil {
		return err
	}
	if !have.ours {
		return certctl.Errorf(certctl.Conflict, "%s was not made by this target", have.id).WithRemedy("delete it by hand, or forget it without remove")
	}
	if err := t.depot.remove(ctx, have.id); certctl.ErrorCode(err) != certctl.NotFound {
		return err
	}
	return nil
}

// Recover ends changes that were not proven when the process died.
func (t *depotTarget) Recover(ctx context.Context) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := t.noted()
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := t.kept(name)
		if err == nil && n.Where != t.where {
			err = t.drop(name) // with its keys: the settings name another store now
		} else if err == nil && n.Next != nil {
			_, _, err = t.now(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Test asks the vendor for everything that an installation would read, and says what
// it would do.
func (t *depotTarget) Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep {
	ctx, cancel := context.WithTimeout(ctx, depotTestTimeout)
	defer cancel()
	var steps []certctl.TestStep
	for _, place := range command.Places {
		have, _, name, err := t.at(ctx, place.Place, place.Slot)
		if err == nil {
			err = t.checkOwner(name, have)
		}
		if err != nil {
			steps = append(steps, failedStep("place", place.Place, err))
			continue
		}
		step := certctl.TestStep{Step: "place", Subject: name, State: certctl.StepOK, Message: "a new certificate would be made"}
		if have != nil {
			step.Message = have.id + " has " + have.facts.Fingerprint.String() + " and would be replaced"
		}
		steps = append(steps, step)
		if have != nil {
			steps = append(steps, t.testListener(ctx, place, have)...)
		}
	}
	return steps
}

// testListener says what is served now.
func (t *depotTarget) testListener(ctx context.Context, place certctl.TestPlace, have *held) (steps []certctl.TestStep) {
	if len(t.probe.Addresses) == 0 {
		return nil
	}
	if !have.used {
		return []certctl.TestStep{{Step: "listener", Subject: have.id, State: certctl.StepSkipped, Message: "nothing uses it yet"}}
	}
	served, _, err := t.probe.Serves(ctx, target.Expect(place.Slot, certctl.Leaf{Names: place.Names, Fingerprint: have.facts.Fingerprint, Algorithm: have.facts.Algorithm}))
	for _, s := range served {
		message := "serves it"
		if s.Fingerprint != have.facts.Fingerprint {
			message = "serves " + s.Fingerprint.String()
		}
		steps = append(steps, certctl.TestStep{Step: "listener", Subject: s.Address + " " + s.ServerName, State: certctl.StepOK, Message: message})
	}
	if err != nil && !target.Unseen(err) {
		steps = append(steps, failedStep("listener", have.id, err))
	}
	return steps
}

func failedStep(step, subject string, err error) certctl.TestStep {
	s := certctl.TestStep{Step: step, Subject: subject, State: certctl.StepFails, Message: certctl.Clip(err.Error(), maxMessage)}
	var ours *certctl.Error
	if errors.As(err, &ours) {
		s.Remedy = ours.Remedy
	}
	return s
}
