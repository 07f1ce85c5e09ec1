package target

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// run is one Apply.
type run struct {
	target   *Target
	receipts map[certctl.ID]certctl.Receipt
	until    time.Time // see awaitLoaded
}

// step is one command on its way: its place, the generation that is served, and
// the one that is to be.
type step struct {
	install   Install
	leaf      *x509.Certificate
	place     place
	previous  int
	next      int
	checkedBy string
}

// Points at which Env.Fault is called.
const (
	FaultStaged   = "staged"
	FaultSwitched = "switched"
	FaultReloaded = "reloaded"
	FaultProbed   = "probed"
)

func (r *run) fault(point string) {
	if r.target.env.Fault != nil {
		r.target.env.Fault(point)
	}
}

// apply stages what can be staged and carries it on together.
func (r *run) apply(ctx context.Context, batch []Install) {
	var steps []*step
	for _, s := range r.writeAll(r.check(ctx, batch)) {
		if !r.served(ctx, s) {
			steps = append(steps, s)
		}
	}
	if len(steps) > 0 {
		r.fault(FaultStaged)
		r.carry(ctx, steps)
	}
}

// takeBack goes back to what was there before a switch that was not proven: the
// connection to its host broke, and nobody has recovered it since. What is served
// then is for this batch to prove.
func (r *run) takeBack(ctx context.Context, p place) error {
	previous, unproven := p.unproven()
	if !unproven {
		return nil
	}
	if err := p.switchTo(previous); err != nil {
		return err
	}
	_ = r.target.driver.reload(ctx) // without the files of a first generation it may fail
	return p.proven()
}

// served answers for a version that is in place and served: nothing is touched.
func (r *run) served(ctx context.Context, s *step) bool {
	current, err := s.place.number()
	if err != nil || current != s.next {
		return false
	}
	if len(r.target.driver.addresses()) == 0 {
		r.done(s, certctl.OutcomeInstalled, nil)
		return true
	}
	served, is, err := r.target.prober().Serves(ctx, ExpectInstalled(s.install.Command))
	switch {
	case is:
		r.done(s, certctl.OutcomeVerified, served)
	case Unseen(err):
		r.unseen(s, served, err)
	}
	return is || Unseen(err)
}

// carry brings staged steps through check, switch, reload and probe. When the
// check or the reload fails, the steps are halved until the culprit is alone.
func (r *run) carry(ctx context.Context, steps []*step) {
	if err := r.checkStaged(ctx, steps); err != nil {
		r.halve(ctx, steps, func(s *step) {
			r.unchanged(s, "check_refused", err)
			r.drop(s)
		})
		return
	}
	if err := r.switchAll(steps); err != nil {
		for _, s := range steps {
			r.back(ctx, s, "write_failed", err)
		}
		return
	}
	r.fault(FaultSwitched)
	if err := r.target.driver.reload(ctx); err != nil {
		r.undo(steps)
		if reloadErr := r.target.driver.reload(ctx); reloadErr != nil {
			err = errors.Join(err, reloadErr)
		}
		r.halve(ctx, steps, func(s *step) {
			r.unchanged(s, "reload_failed", err)
			r.drop(s)
		})
		return
	}
	r.fault(FaultReloaded)
	for _, s := range steps {
		r.prove(ctx, s)
	}
}

// halve tries both halves of a failed batch, or ends the one step that it is.
func (r *run) halve(ctx context.Context, steps []*step, end func(*step)) {
	if len(steps) == 1 {
		end(steps[0])
		return
	}
	half := len(steps) / 2
	r.carry(ctx, steps[:half])
	r.carry(ctx, steps[half:])
}

// checkStaged runs the daemon's check on its real configuration with the staged
// generations in place: in a namespace of its own, or by switching and, on
// failure, switching back before any reload.
func (r *run) checkStaged(ctx context.Context, steps []*step) error {
	if len(r.target.driver.check()) == 0 {
		return nil
	}
	mounts := make([]mount, 0, len(steps))
	first := false
	for _, s := range steps {
		current, err := s.place.number()
		if err != nil {
			return err
		}
		first = first || current == 0
		if current != 0 && current != s.next {
			mounts = append(mounts, mount{From: s.place.generation(s.next), Over: s.place.generation(current)})
		}
	}
	if !first {
		err := r.target.check(ctx, mounts)
		if !errors.Is(err, errNoNamespace) {
			r.checkedBy(steps, "namespace")
			return err
		}
	}
	r.checkedBy(steps, "switch")
	if err := r.switchAll(steps); err != nil {
		r.undo(steps)
		return err
	}
	if err := r.target.check(ctx, nil); err != nil {
		r.undo(steps)
		return err
	}
	return nil
}

func (r *run) checkedBy(steps []*step, way string) {
	for _, s := range steps {
		s.checkedBy = way
	}
}

// switchAll makes the staged generations current. What was before is noted
// first, so that a crash does not leave an unproven one behind.
func (r *run) switchAll(steps []*step) error {
	for _, s := range steps {
		current, err := s.place.number()
		if err != nil {
			return err
		}
		if current == s.next {
			continue
		}
		if err := errors.Join(s.place.begin(s.previous), s.place.switchTo(s.next)); err != nil {
			return err
		}
	}
	return nil
}

// undo switches back. Its errors are the daemon's to notice: the receipts tell
// what is in place.
func (r *run) undo(steps []*step) {
	for _, s := range steps {
		_ = errors.Join(s.place.switchTo(s.previous), s.place.proven())
	}
}

// prove probes until the new leaf is served or time is up, and goes back if not.
func (r *run) prove(ctx context.Context, s *step) {
	if err := r.awaitLoaded(ctx, s); err != nil {
		r.back(ctx, s, "refused", err)
		return
	}
	if len(r.target.driver.addresses()) == 0 {
		r.commit(s, certctl.OutcomeInstalled, nil)
		return
	}
	served, err := r.target.await(ctx, ExpectInstalled(s.install.Command))
	if err != nil && !Unseen(err) {
		r.back(ctx, s, "not_served", err)
		return
	}
	r.fault(FaultProbed)
	if err == nil {
		r.commit(s, certctl.OutcomeVerified, served)
	} else if r.commit(s, certctl.OutcomeInstalled, served) {
		r.unseen(s, served, err)
	}
}

// back restores the previous generation, reloads, and probes it.
func (r *run) back(ctx context.Context, s *step, code string, cause error) {
	err := errors.Join(s.place.switchTo(s.previous), s.place.proven())
	if err == nil {
		err = r.target.driver.reload(ctx)
	}
	if err == nil {
		err = r.target.proveCurrent(ctx, s.place)
	}
	r.drop(s)
	if err != nil {
		r.fail(s.install.Command, certctl.OutcomeFailed, code, errors.Join(cause, err))
		return
	}
	r.unchanged(s, code, cause)
}

// commit ends a step that is proven, and reports whether it could.
func (r *run) commit(s *step, outcome certctl.ReceiptOutcome, served []certctl.Served) bool {
	if err := s.place.proven(); err != nil {
		r.fail(s.install.Command, certctl.OutcomeFailed, "write_failed", err)
		return false
	}
	_ = s.place.prune(s.previous) // an old generation too many does no harm
	r.done(s, outcome, served)
	return true
}

// unseen is the receipt of a leaf that is in place, and that not every listener lets
// itself be asked for.
func (r *run) unseen(s *step, served []certctl.Served, why error) {
	r.done(s, certctl.OutcomeInstalled, served)
	receipt := r.receipts[s.install.Command.Deployment]
	receipt.Message = UnseenMessage(why)
	r.receipts[receipt.Deployment] = receipt
}

// drop removes a generation that is not used.
func (r *run) drop(s *step) {
	if current, err := s.place.number(); err == nil {
		_ = s.place.prune(before(s.place, current))
		if current != s.next {
			_ = removeGeneration(s.place, s.next)
		}
	}
}

func (r *run) done(s *step, outcome certctl.ReceiptOutcome, served []certctl.Served) {
	c := s.install.Command
	receipt := certctl.Receipt{
		Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Fingerprint: c.Fingerprint,
		Outcome: outcome, Generation: s.next, CheckedBy: s.checkedBy, VerifiedBy: "probe", Served: served,
	}
	if outcome == certctl.OutcomeInstalled {
		receipt.VerifiedBy = r.withoutProbe(s.place)
	}
	r.receipts[c.Deployment] = receipt
}

// unchanged is the receipt of a step after which the previous generation is
// still, or again, in place; without one it is a failure.
func (r *run) unchanged(s *step, code string, cause error) {
	c := s.install.Command
	outcome := certctl.OutcomeFailed
	current, err := s.place.number()
	if err == nil && current > 0 {
		outcome = certctl.OutcomeRolledBack
	}
	r.fail(c, outcome, code, cause)
	receipt := r.receipts[c.Deployment]
	receipt.Generation, receipt.CheckedBy = current, s.checkedBy
	if current > 0 {
		receipt.Fingerprint = s.place.fingerprint(current)
	}
	r.receipts[c.Deployment] = receipt
}

// maxMessage bounds what a receipt quotes of a daemon's words.
const maxMessage = 2048

func (r *run) fail(c certctl.InstallCommand, outcome certctl.ReceiptOutcome, code string, cause error) {
	receipt := certctl.Receipt{
		Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Outcome: outcome, Code: code,
		Message: certctl.Clip(strings.ToValidUTF8(cause.Error(), "?"), maxMessage),
	}
	var ours *certctl.Error
	if errors.As(cause, &ours) {
		receipt.Remedy = ours.Remedy
		if ours.Code == certctl.Denied {
			receipt.Code = "policy_denied"
		}
	}
	r.receipts[c.Deployment] = receipt
}
