package remote

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

const maxTries = 4 // to update what others update, too

// Apply writes one Secret after the other, and returns a receipt for each command.
func (s *secrets) Apply(ctx context.Context, batch []target.Install) []certctl.Receipt {
	receipts := make([]certctl.Receipt, len(batch))
	unlock, lockErr := s.lock()
	if lockErr == nil {
		defer unlock()
	}
	for i, install := range batch {
		c := install.Command
		r := certctl.Receipt{Deployment: c.Deployment, Binding: c.Binding, Version: c.Version}
		if lockErr != nil {
			receipts[i] = failed(r, nil, "write_failed", lockErr)
		} else {
			receipts[i] = s.apply(ctx, r, install)
		}
		receipts[i].At = s.env.Now().UTC()
	}
	return receipts
}

// apply writes one Secret. Whoever changes it at the same time makes us look again.
func (s *secrets) apply(ctx context.Context, r certctl.Receipt, install target.Install) certctl.Receipt {
	c := install.Command
	name, err := secretName(c.Place, c.Slot)
	if err != nil {
		return failed(r, nil, "place_refused", err)
	}
	if err := s.takeBack(ctx, name); err != nil {
		return failed(r, nil, "write_failed", err)
	}
	for try := 1; ; try++ {
		have, err := s.api.Get(ctx, name)
		if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
			return failed(r, nil, "write_failed", err)
		}
		if err := s.checkOwner(have); err != nil {
			return failed(r, nil, "not_ours", err)
		}
		if err := target.CheckPair(install, s.env.Now()); err != nil {
			return failed(r, have, "pair_mismatch", err)
		}
		next, err := s.with(have, name, install)
		if err != nil {
			return failed(r, have, "write_failed", err)
		}
		if same(have, next) && s.serves(ctx, install, &r) {
			return r
		}
		written, err := s.write(ctx, have, next, c.Fingerprint)
		if certctl.ErrorCode(err) == certctl.Conflict && try < maxTries {
			continue
		}
		if err != nil {
			return failed(r, have, "write_failed", err)
		}
		return s.prove(ctx, r, install, have, written)
	}
}

// serves answers for a Secret that is as it should be, and served.
func (s *secrets) serves(ctx context.Context, install target.Install, r *certctl.Receipt) bool {
	if len(s.probe.Addresses) == 0 {
		*r = installed(*r, install, nil)
		return true
	}
	served, is, err := s.probe.Serves(ctx, target.ExpectInstalled(install.Command))
	if is {
		*r = installed(*r, install, served)
	} else if target.Unseen(err) {
		*r = unseen(*r, install, err)
	}
	return is || target.Unseen(err)
}

// write notes how a Secret was and writes it. What was not written is not noted
// any more: unless it may have been, and the answer was lost.
func (s *secrets) write(ctx context.Context, have, next *kube.Secret, leaf certctl.Digest) (*kube.Secret, error) {
	name := next.Metadata.Name
	if err := s.begin(name, change{Previous: have, Next: leaf}); err != nil {
		return nil, err
	}
	s.fault(target.FaultStaged)
	var written *kube.Secret
	var err error
	if have == nil {
		written, err = s.api.Create(ctx, next)
	} else {
		written, err = s.api.Update(ctx, next)
	}
	if err != nil {
		if certctl.ErrorCode(err) != certctl.Unavailable {
			err = errors.Join(err, s.proven(name))
		}
		return nil, err
	}
	s.fault(target.FaultSwitched)
	return written, nil
}

// prove probes until the new leaf is served or time is up, and puts back what was
// if not. Where nothing is probed, that Kubernetes has taken it is all there is.
func (s *secrets) prove(ctx context.Context, r certctl.Receipt, install target.Install, have, written *kube.Secret) certctl.Receipt {
	name := written.Metadata.Name
	var served []certctl.Served
	var err error
	if len(s.probe.Addresses) > 0 {
		if served, err = s.probe.Await(ctx, target.ExpectInstalled(install.Command)); err != nil && !target.Unseen(err) {
			if backErr := s.putBack(ctx, have, written); backErr != nil {
				return failed(r, nil, "not_served", errors.Join(err, backErr))
			}
			if backErr := s.provePrevious(ctx, install.Command.Slot, have); backErr != nil {
				return failed(r, nil, "not_served", errors.Join(err, backErr))
			}
			return failed(r, have, "not_served", err)
		}
		s.fault(target.FaultProbed)
	}
	if err := s.proven(name); err != nil {
		return failed(r, nil, "write_failed", err)
	}
	if err != nil {
		return unseen(r, install, err)
	}
	return installed(r, install, served)
}

// putBack makes the Secret what it was, unless somebody has changed it meanwhile,
// and forgets the change.
func (s *secrets) putBack(ctx context.Context, previous, now *kube.Secret) error {
	var err error
	if previous == nil {
		err = s.api.Delete(ctx, now)
	} else {
		old := *previous
		old.Metadata.ResourceVersion = now.Metadata.ResourceVersion
		_, err = s.api.Update(ctx, &old)
	}
	if code := certctl.ErrorCode(err); err != nil && code != certctl.NotFound {
		return err
	}
	return s.proven(now.Metadata.Name)
}

// provePrevious waits until what was before is served again, as far as there was
// something.
func (s *secrets) provePrevious(ctx context.Context, slot certctl.Slot, previous *kube.Secret) error {
	if previous == nil {
		return nil
	}
	facts, _, _, err := leafOf(previous)
	if err != nil {
		return nil //nolint:nilerr // what was there before was no certificate: there is nothing to prove
	}
	if _, err = s.probe.Await(ctx, target.Expect(slot, facts)); target.Unseen(err) {
		return nil
	}
	return err
}

// takeBack puts back what was before a change that nobody has proven. One that
// somebody else has overwritten is his.
func (s *secrets) takeBack(ctx context.Context, name string) error {
	noted, err := s.unproven(name)
	if err != nil || noted == nil {
		return err
	}
	now, err := s.api.Get(ctx, name)
	if certctl.ErrorCode(err) == certctl.NotFound {
		return s.proven(name)
	}
	if err != nil {
		return err
	}
	facts, _, _, err := leafOf(now)
	if err != nil || facts.Fingerprint != noted.Next || len(s.probe.Addresses) == 0 {
		return s.proven(name) // it was not written, is not ours any more, or nothing was to be proven
	}
	return s.putBack(ctx, noted.Previous, now)
}

func (s *secrets) fault(point string) {
	if s.env.Fault != nil {
		s.env.Fault(point)
	}
}

// failed is the receipt of a command after which the Secret is as it was; have is
// that, if it is known and holds something of ours.
func failed(r certctl.Receipt, have *kube.Secret, code string, cause error) certctl.Receipt {
	var there certctl.Digest
	if have != nil {
		if facts, _, _, err := leafOf(have); err == nil {
			there = facts.Fingerprint
		}
	}
	return failure(r, there, code, cause)
}
