package agent

import (
	"context"
	"crypto"
	"crypto/x509"

	"github.com/certctl/certctl"
)

// Install is one command for a target, with the private key of its leaf.
type Install struct {
	Command certctl.InstallCommand
	Key     crypto.Signer
}

// Target is an opened target; see agent/target. Its methods are not called at
// the same time.
type Target interface {
	// Apply serves all versions with one check and one reload where it can, and
	// returns a receipt for each.
	Apply(ctx context.Context, installs []Install) []certctl.Receipt
	// Recover ends what a killed process left half done.
	Recover(ctx context.Context) error
	// Forget ends the management of a binding.
	Forget(ctx context.Context, command certctl.ForgetCommand) error
}

// Inspector is a target that can tell whether its files are as they were
// installed. The error says how they differ, for a person; one that is Unavailable
// says that nobody can tell now.
type Inspector interface {
	Inspect(place string, slot certctl.Slot, fingerprint, spki certctl.Digest) error
}

// Targets opens targets by their description, whose secrets are in the clear.
// An error says why this node will not or cannot serve it.
type Targets struct {
	Kinds []string
	Open  func(spec certctl.TargetCommand) (Target, error)
	// Denied returns everything that the node's policy does not allow of a target,
	// where Open stops at the first; nil: Open alone knows.
	Denied func(spec certctl.TargetCommand) []error
}

// openTarget is a target that is kept open while its description is the same.
type openTarget struct {
	record targetRecord
	target Target
}

// open returns the target by its newest description.
func (a *Agent) open(id certctl.ID) (Target, error) {
	var record targetRecord
	if !a.journal.Get(targetKey(id), &record) {
		return nil, certctl.Errorf(certctl.NotFound, "this node has not been told what target %s is", id)
	}
	a.openMu.Lock()
	defer a.openMu.Unlock()
	if known, ok := a.opened[id]; ok {
		if known.record.Number == record.Number && known.record.Time.Equal(record.Time) {
			return known.target, nil
		}
		delete(a.opened, id)
		a.unserve(id, known.target)
	}
	spec := record.Command
	if err := a.policy.AllowKind(spec.Kind); err != nil {
		return nil, err
	}
	if len(spec.Secrets) > 0 {
		info := certctl.SealInfo{Purpose: certctl.SealSecrets, Object: id, Agent: a.id.Agent}
		plain, err := certctl.OpenSealed(a.keys.Sealing, info, spec.Secrets)
		if err != nil {
			return nil, err
		}
		spec.Secrets = plain
	}
	target, err := a.targets.Open(spec)
	if err != nil {
		return nil, err
	}
	a.bind(id, target)
	a.opened[id] = openTarget{record, target}
	return target, nil
}

// recover lets every known target end what a killed process left half done: the
// near ones before the agent asks for work. Its failures do not stop the agent:
// the target's next batch meets the same trouble and reports it.
func (a *Agent) recover(ctx context.Context, distant bool) {
	for _, key := range a.journal.Keys("target/") {
		target, err := a.open(idOf(key))
		if err == nil && isDistant(target) != distant {
			continue
		}
		if err == nil {
			err = a.recoverOne(ctx, target)
		}
		if err != nil {
			a.log.Warn().Stringer("target", idOf(key)).Err(err).Msg("target not recovered")
		}
	}
}

// serveTarget carries out the commands of one target together.
func (a *Agent) serveTarget(id certctl.ID, batch []job) {
	target, err := a.open(id)
	var installs []job
	for _, j := range batch {
		switch {
		case a.workCtx.Err() != nil || a.answered(j):
		case j.test != nil:
			a.test(target, err, j)
		case err != nil:
			a.conclude(j, bindingRecord{}, certctl.ReportRefusal, refusalOf(string(certctl.ErrorCode(err)), err))
		case j.forget != nil:
			a.forget(target, j)
		default:
			installs = append(installs, j)
		}
	}
	if len(installs) > 0 {
		a.install(target, installs)
	}
	a.tidy()
}

// install finds the keys, lets the target apply the batch, and journals all
// receipts at once. When the agent is being stopped nothing is journalled: the
// commands are still open and are given again.
func (a *Agent) install(target Target, batch []job) {
	a.keysInUse.RLock()
	defer a.keysInUse.RUnlock()
	var ready []Install
	receipts := map[certctl.ID]certctl.Receipt{}
	var handOver map[certctl.ID]nextRecord
	for _, j := range batch {
		key, err := a.leafKey(j.install)
		if err != nil {
			receipts[j.install.Deployment] = a.untried(j.install, "key_missing", err)
			continue
		}
		ready = append(ready, Install{Command: *j.install, Key: key})
	}
	if len(ready) > 0 {
		next := a.makeNextKeys(ready)
		for _, receipt := range target.Apply(a.workCtx, ready) {
			receipts[receipt.Deployment] = receipt
		}
		handOver = next()
	}
	if a.workCtx.Err() != nil {
		return
	}
	a.at(FaultBeforeReceipt)
	if a.commit(func() []Change { return a.batchChanges(batch, receipts, handOver) }) {
		a.at(FaultAfterReceipt)
	}
}

// batchChanges are the journal's changes for a batch, with a receipt for each
// command, come what may.
func (a *Agent) batchChanges(batch []job, receipts map[certctl.ID]certctl.Receipt, next map[certctl.ID]nextRecord) (changes []Change) {
	for _, j := range batch {
		receipt, ok := receipts[j.install.Deployment]
		if !ok {
			receipt = a.untried(j.install, "internal", certctl.Errorf(certctl.Internal, "the driver gave no receipt"))
		}
		if installed(receipt) {
			changes = append(changes, a.handOver(j.install, &receipt, next)...)
		}
		changes = append(changes, a.receiptChanges(j, receipt)...)
	}
	return changes
}

// untried is the receipt of a command that did not reach the target.
func (a *Agent) untried(c *certctl.InstallCommand, code string, err error) certctl.Receipt {
	var record bindingRecord
	a.journal.Get(bindingKey(c.Binding), &record)
	return certctl.Receipt{
		Deployment: c.Deployment, Binding: c.Binding, Version: c.Version, Fingerprint: record.Fingerprint,
		Outcome: certctl.OutcomeFailed, Code: code, Message: safeMessage(err), Remedy: remedyOf(err), At: a.now().UTC(),
	}
}

// leafKey returns the private key of the leaf: made here, or sealed to this node.
func (a *Agent) leafKey(c *certctl.InstallCommand) (crypto.Signer, error) {
	if len(c.SealedKey) == 0 {
		key, err := a.store.Get(c.SPKI)
		return key, withRemedy(err, "renew the certificate: the node makes a new key for it")
	}
	info, remedy := certctl.SealInfo{Purpose: certctl.SealPrivateKey, Object: c.Certificate, Agent: a.id.Agent, SPKI: c.SPKI}, "import the certificate's key again"
	if !c.Holder.IsZero() {
		info, remedy = sharedInfo(c.Holder, a.id.Agent, c.SPKI, c.SealedNumber), "nothing is to be done: another member seals the key again"
	}
	der, err := certctl.OpenSealed(a.keys.Sealing, info, c.SealedKey)
	if err != nil {
		return nil, withRemedy(err, remedy)
	}
	key, err := parseKey(der, c.SPKI)
	if err != nil {
		return nil, err
	}
	_, err = a.store.Put(key)
	return key, err
}

// receiptChanges are the journal's changes for one receipt.
func (a *Agent) receiptChanges(j job, receipt certctl.Receipt) []Change {
	c := j.install
	var record bindingRecord
	a.journal.Get(bindingKey(c.Binding), &record)
	record.Target, record.Pending, record.Certificate = c.Target, c.SPKI, c.Certificate
	event := a.log.Info()
	changes := []Change{}
	if installed(receipt) {
		record.Version, record.Fingerprint, record.Pending = c.Version, c.Fingerprint, certctl.Digest{}
		record.Place, record.Slot = c.Place, c.Slot
		holder := a.sharedBy(c)
		record.Keys = usedKeys(record.Keys, c)
		record.Keys[0].Holder = holder
		changes = append(changes, a.claimed(c.SPKI)...)
	} else {
		event = a.log.Warn()
	}
	event.Stringer("deployment", c.Deployment).Stringer("target", c.Target).Str("certificate", certctl.Clip(c.CertificateName, 100)).
		Stringer("fingerprint", c.Fingerprint).Int64("number", j.statement.Number).Str("outcome", string(receipt.Outcome)).
		Str("code", receipt.Code).Str("message", certctl.Clip(receipt.Message, 300)).Msg("installation")
	return append(changes, a.answerChanges(j, record, certctl.ReportReceipt, receipt)...)
}

// installed reports whether the version is in place now.
func installed(receipt certctl.Receipt) bool {
	return receipt.Outcome == certctl.OutcomeVerified || receipt.Outcome == certctl.OutcomeInstalled
}

// usedKeys puts the key of the leaf that is in place now before that of the
// previous generation, which is kept; older ones are not.
func usedKeys(keys []keyUse, c *certctl.InstallCommand) []keyUse {
	use := keyUse{SPKI: c.SPKI}
	if leaf, err := x509.ParseCertificate(c.Leaf); err == nil {
		use.NotAfter = leaf.NotAfter
	}
	if len(keys) > 0 && keys[0].SPKI == c.SPKI {
		return append([]keyUse{use}, keys[1:]...)
	}
	return append([]keyUse{use}, keys[:min(len(keys), 1)]...)
}

// claimed marks the orders of a key that a binding answers for from now on.
func (a *Agent) claimed(spki certctl.Digest) []Change {
	var changes []Change
	for _, key := range a.journal.Keys("order/") {
		var record orderRecord
		if a.journal.Get(key, &record) && record.SPKI == spki && !record.Claimed {
			record.Claimed = true
			changes = append(changes, Change{key, record})
		}
	}
	return changes
}

// forget ends the management of a binding. The number stays, so that an older
// command cannot bring it back. What was bound anew to its place stays there.
func (a *Agent) forget(target Target, j job) {
	command := *j.forget
	command.Remove = command.Remove && !a.isTaken(j.forget)
	err := target.Forget(a.workCtx, command)
	switch {
	case a.workCtx.Err() != nil:
		return
	case err != nil:
		a.conclude(j, bindingRecord{}, certctl.ReportRefusal, refusalOf(string(certctl.ErrorCode(err)), err))
		return
	}
	a.log.Info().Stringer("binding", j.forget.Binding).Bool("remove", j.forget.Remove).Msg("binding forgotten")
	a.conclude(j, bindingRecord{Target: j.forget.Target, Forgotten: true}, certctl.ReportForgotten, certctl.Refusal{})
}

// conclude journals the answer to a command. A record without a target stands
// for the binding as it was.
func (a *Agent) conclude(j job, record bindingRecord, kind string, body any) {
	if refusal, ok := body.(certctl.Refusal); ok && refusal.Code != "" {
		a.log.Warn().Str("command", label(j.statement)).Str("code", refusal.Code).Str("message", refusal.Message).Msg("command not carried out")
	}
	a.commit(func() []Change {
		if record.Target.IsZero() {
			a.journal.Get(bindingKey(j.subject()), &record)
			record.Target = j.lane()
			if j.install != nil {
				record.Pending = j.install.SPKI
			}
		}
		return a.answerChanges(j, record, kind, body)
	})
}

// answerChanges are the binding's record with the answer to its newest command,
// and that answer as a report to be sent.
func (a *Agent) answerChanges(j job, record bindingRecord, kind string, body any) []Change {
	answer, err := a.statement(kind, j.statement.Object, j.statement.Number, body)
	if err != nil {
		a.problem("report", err)
		return nil
	}
	record.Number, record.Answer, record.At = j.statement.Number, answer, a.now().UTC()
	return []Change{{bindingKey(j.subject()), record}, reportChange(answer)}
}
