package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// Times between looks at what a vendor has taken in.
const (
	settleFirst   = 50 * time.Millisecond
	settleLongest = 5 * time.Second
)

// leastWayBack is how long what was put back may take to be served, however short
// the settings make the way there: otherwise a slow answer would count as no way back.
const leastWayBack = time.Minute

// Apply puts one certificate after the other, and returns a receipt for each command.
func (t *depotTarget) Apply(ctx context.Context, batch []target.Install) []certctl.Receipt {
	receipts := make([]certctl.Receipt, len(batch))
	unlock, lockErr := t.lock(ctx)
	if lockErr == nil {
		defer unlock()
	}
	for i, install := range batch {
		c := install.Command
		r := certctl.Receipt{Deployment: c.Deployment, Binding: c.Binding, Version: c.Version}
		if lockErr != nil {
			receipts[i] = failure(r, certctl.Digest{}, "write_failed", lockErr)
		} else {
			receipts[i] = t.apply(ctx, r, install)
		}
		receipts[i].At = t.env.Now().UTC()
	}
	return receipts
}

func (t *depotTarget) apply(ctx context.Context, r certctl.Receipt, install target.Install) certctl.Receipt {
	c := install.Command
	name, err := depotName(c.Place, c.Slot)
	if err != nil {
		return failure(r, certctl.Digest{}, "place_refused", err)
	}
	have, n, err := t.now(ctx, name)
	if err != nil {
		return failure(r, certctl.Digest{}, "write_failed", err)
	}
	if err := t.checkOwner(name, have); err != nil {
		return failure(r, certctl.Digest{}, "not_ours", err)
	}
	if err := target.CheckPair(install, t.env.Now()); err != nil {
		return failure(r, fingerprintOf(have), "pair_mismatch", err)
	}
	if n.Current.isOf(c) && fingerprintOf(have) == c.Fingerprint && t.serves(ctx, install, have, &r) {
		return r
	}
	next, err := contentsOf(install)
	if err == nil {
		err = t.takes(c)
	}
	if err != nil {
		return failure(r, fingerprintOf(have), "check_refused", err)
	}
	n.Next, n.Before = next, fingerprintOf(have)
	before := n.Before
	id, err := t.put(ctx, name, n, have)
	if certctl.ErrorCode(err) == certctl.Unavailable {
		before = certctl.Digest{} // nobody knows what is there now
	}
	if err != nil {
		return failure(r, before, "write_failed", err)
	}
	return t.prove(ctx, r, install, name, id, n)
}

// now is what is there, after a change that was not proven has been ended.
func (t *depotTarget) now(ctx context.Context, name string) (*held, *depotNote, error) {
	n, err := t.note(name)
	if err != nil {
		return nil, nil, err
	}
	have, err := t.look(ctx, name, n)
	if err != nil || n.Next == nil {
		return have, n, err
	}
	if err := t.takeBack(ctx, name, n, have); err != nil {
		return nil, nil, err
	}
	have, err = t.look(ctx, name, n)
	return have, n, err
}

func (t *depotTarget) takes(c certctl.InstallCommand) error {
	facts, err := certctl.ParseLeaf(c.Leaf)
	if err != nil {
		return err
	}
	return t.depot.takes(facts)
}

func contentsOf(install target.Install) (*contents, error) {
	key, err := x509.MarshalPKCS8PrivateKey(install.Key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the key cannot be encoded")
	}
	return &contents{Leaf: install.Command.Leaf, Chain: install.Command.Chain, Key: key}, nil
}

func fingerprintOf(have *held) certctl.Digest {
	if have == nil {
		return certctl.Digest{}
	}
	return have.facts.Fingerprint
}

// serves answers for what is there already, and served.
func (t *depotTarget) serves(ctx context.Context, install target.Install, have *held, r *certctl.Receipt) bool {
	if !t.probed(have) {
		*r = loaded(*r, install, have)
		return true
	}
	served, is, err := t.probe.Serves(ctx, target.ExpectInstalled(install.Command))
	if is {
		*r = installed(*r, install, served)
	} else if target.Unseen(err) {
		*r = unseen(*r, install, err)
	}
	return is || target.Unseen(err)
}

// probed reports whether a listener could show what is there.
func (t *depotTarget) probed(have *held) bool { return len(t.probe.Addresses) > 0 && have.used }

// put notes what is to be there, and puts it. What was refused is not noted any
// more: unless it may be there, and the answer was lost.
func (t *depotTarget) put(ctx context.Context, name string, n *depotNote, have *held) (id string, err error) {
	if have != nil {
		n.ID = have.id
	}
	if err := t.keep(name, n); err != nil {
		return "", err
	}
	t.fault(target.FaultStaged)
	id, err = t.depot.put(ctx, n.ID, name, *n.Next)
	if err != nil {
		if certctl.ErrorCode(err) != certctl.Unavailable {
			n.settled()
			err = errors.Join(err, t.keep(name, n))
		}
		return "", err
	}
	n.ID = id
	if err := t.keep(name, n); err != nil { // the vendor has taken it: it is as if its answer was lost
		return "", certctl.Wrap(certctl.Unavailable, err, "%s has the certificate, which could not be noted", id)
	}
	t.fault(target.FaultSwitched)
	return id, nil
}

// prove waits until the vendor has the new leaf and, where it is used, until it is
// served, and puts back what was if not.
func (t *depotTarget) prove(ctx context.Context, r certctl.Receipt, install target.Install, name, id string, n *depotNote) certctl.Receipt {
	var served []certctl.Served
	have, err := t.settle(ctx, t.probe.Patience, id, name, install.Command.Fingerprint)
	if err == nil && t.probed(&have) {
		served, err = t.probe.Await(ctx, target.ExpectInstalled(install.Command))
	}
	if err != nil && !target.Unseen(err) {
		before := n.Before
		if backErr := t.putBack(ctx, name, n); backErr != nil {
			return failure(r, certctl.Digest{}, "not_served", errors.Join(err, backErr))
		}
		if backErr := t.provePrevious(ctx, install.Command.Slot, name, before, n); backErr != nil {
			return failure(r, certctl.Digest{}, "not_served", errors.Join(err, backErr))
		}
		return failure(r, before, "not_served", err)
	}
	t.fault(target.FaultProbed)
	n.Current = n.Next
	n.settled()
	if err := t.keep(name, n); err != nil {
		return failure(r, certctl.Digest{}, "write_failed", err)
	}
	switch {
	case err != nil:
		return unseen(r, install, err)
	case len(served) > 0:
		return installed(r, install, served)
	}
	return loaded(r, install, &have)
}

// settle looks until the vendor tells the leaf that was put: some take their time.
func (t *depotTarget) settle(ctx context.Context, patience time.Duration, id, name string, leaf certctl.Digest) (have held, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := settleFirst; ; wait = min(2*wait, settleLongest) {
		if have, err = t.depot.get(ctx, id, name); err == nil && have.facts.Fingerprint == leaf {
			return have, nil
		}
		if pause(ctx, wait) != nil {
			if err == nil {
				err = certctl.Errorf(certctl.Conflict, "%s took the certificate and still has %s after %s", id, have.facts.Fingerprint, patience)
			}
			return have, err
		}
	}
}

// pause waits, unless the context ends.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// putBack makes it what it was before the change.
func (t *depotTarget) putBack(ctx context.Context, name string, n *depotNote) error {
	previous := n.previous()
	switch {
	case previous != nil:
		if _, err := t.depot.put(ctx, n.ID, name, *previous); err != nil {
			return err
		}
		n.settled()
		return t.keep(name, n)
	case n.Before.IsZero():
		if err := t.depot.remove(ctx, n.ID); err != nil && certctl.ErrorCode(err) != certctl.NotFound {
			return err
		}
		*n = depotNote{}
		return t.drop(name)
	}
	n.Current = n.Next // it stays, and this node has its key
	n.settled()
	return errors.Join(certctl.Errorf(certctl.Conflict, "what was there before stays replaced: its key was never on this node").
		WithRemedy("look why the listener does not serve the new one"), t.keep(name, n))
}

// provePrevious waits until what was put back is there, and served again.
func (t *depotTarget) provePrevious(ctx context.Context, slot certctl.Slot, name string, before certctl.Digest, n *depotNote) error {
	if before.IsZero() {
		return nil
	}
	back := t.probe
	back.Patience = max(back.Patience, leastWayBack)
	have, err := t.settle(ctx, back.Patience, n.ID, name, before)
	if err != nil || !t.probed(&have) {
		return err
	}
	if _, err = back.Await(ctx, target.Expect(slot, have.facts)); target.Unseen(err) {
		return nil
	}
	return err
}

// takeBack ends a change that nobody has proven. One that somebody else has
// overwritten is his.
func (t *depotTarget) takeBack(ctx context.Context, name string, n *depotNote, have *held) error {
	switch {
	case have == nil || have.facts.Fingerprint != n.Next.fingerprint():
		n.settled()
		return t.keep(name, n)
	case !t.probed(have), n.previous() == nil && !n.Before.IsZero():
		n.ID, n.Current = have.id, n.Next // that it is there is all to be proven, or there is no way back
		n.settled()
		return t.keep(name, n)
	}
	n.ID = have.id
	return t.putBack(ctx, name, n)
}

func (t *depotTarget) fault(point string) {
	if t.env.Fault != nil {
		t.env.Fault(point)
	}
}

// loaded is the receipt of what the vendor has, with its name there: who sets up a
// listener needs it.
func loaded(r certctl.Receipt, install target.Install, have *held) certctl.Receipt {
	r = installed(r, install, nil)
	r.Message = have.id
	return r
}
