package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

// takeReceipt judges an agent's word of how an install command ended.
func (b *reportBatch) takeReceipt(s certctl.Statement, r *certctl.Receipt, next *certctl.CSR) error {
	d := b.deployments[s.Object]
	done := r.Outcome == certctl.OutcomeVerified || r.Outcome == certctl.OutcomeInstalled
	switch {
	case d == nil || d.Agent != s.Agent:
		return notYours("deployment")
	case r.Binding != d.Binding || r.Version != d.Version:
		return certctl.Errorf(certctl.Denied, "the receipt is for another version or binding than the command")
	case done && r.Fingerprint != d.fingerprint:
		return certctl.Errorf(certctl.Denied, "what is in place is not what was to be installed")
	case s.Number != d.number || s.Number == 0:
		return over("command")
	case d.State == certctl.DeploymentInstalling, done && !d.State.Final():
		if done {
			b.takeNext(d, next)
		}
		d.holder.lost = r.Code == keyMissing && d.holder.live && d.holder.handed
		return b.conclude(d, s, r)
	case d.State == certctl.DeploymentSuperseded || d.State == certctl.DeploymentPending:
		return over("command")
	}
	return nil // recorded before
}

// refuseInstall records that a node has not even tried.
func (b *reportBatch) refuseInstall(s certctl.Statement, refusal *certctl.Refusal) error {
	d := b.deployments[s.Object]
	switch {
	case d.Agent != s.Agent:
		return notYours("deployment")
	case s.Number != d.number || s.Number == 0 || d.State == certctl.DeploymentPending || d.State == certctl.DeploymentSuperseded:
		return over("command")
	case d.State != certctl.DeploymentInstalling:
		return nil // recorded before
	}
	return b.conclude(d, s, &certctl.Receipt{Outcome: certctl.OutcomeFailed, Code: refusal.Code, Message: refusal.Message, Remedy: refusal.Remedy})
}

// conclude ends a command, and says when it is tried again.
func (b *reportBatch) conclude(d *reportedDeployment, s certctl.Statement, r *certctl.Receipt) error {
	receipt, err := json.Marshal(s)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the receipt cannot be stored")
	}
	d.Tries++
	var again time.Time
	d.State, again = d.State.Next(r.Outcome, d.Tries, b.now, spreadOf(d.ID))
	d.Reason, d.Message, d.Wait, d.receipt = certctl.Clip(r.Code, 100), certctl.Clip(r.Message, 2000), certctl.WaitNone, receipt
	data := map[string]any{
		"certificate": d.Certificate, "name": d.name, "deployment": d.ID, "binding": d.Binding, "target": d.Target.ID,
		"target_name": d.Target.Name, "agent": d.Agent, "version": d.Version, "fingerprint": d.fingerprint,
	}
	name, outcome := certctl.EventDeploymentFailed, certctl.OutcomeFailure
	switch d.State {
	case certctl.DeploymentVerified:
		d.VerifiedAt = b.now
		name, outcome = certctl.EventDeploymentVerified, certctl.OutcomeSuccess
	case certctl.DeploymentInstalled:
		name, outcome = certctl.EventDeploymentInstalled, certctl.OutcomeSuccess
	case certctl.DeploymentRolledBack:
		name = certctl.EventDeploymentRolled
	}
	if outcome == certctl.OutcomeSuccess {
		if d.holder.accepted != nil {
			data["next_key"] = d.holder.accepted.SPKI
		}
		d.Reason, d.Message = "", ""
		b.done[dueDeployment] = append(b.done[dueDeployment], d.ID)
	} else {
		d.Wait = certctl.WaitBackoff
		data["code"], data["retry_at"] = d.Reason, again
		b.due = append(b.due, dueRow{kind: dueDeployment, id: d.ID, verb: certctl.HintBell, agent: d.Agent, urgency: certctl.UrgencySoon, at: again})
	}
	b.changed[d.Certificate] = true
	b.eventOutcome(d.team, certctl.AggregateCertificate, d.Certificate, name, outcome, data)
	return nil
}

// writeDeployments stores what receipts and refusals said.
func (b *reportBatch) writeDeployments(ctx context.Context) error {
	var ids []certctl.ID
	var states, waits, reasons, messages, receipts []string
	var tries []int32
	var verified []time.Time
	for _, id := range sortedIDs(b.deployments) {
		d := b.deployments[id]
		if d.receipt == nil {
			continue
		}
		ids, states, waits = append(ids, id), append(states, string(d.State)), append(waits, string(d.Wait))
		reasons, messages, receipts = append(reasons, d.Reason), append(messages, d.Message), append(receipts, string(d.receipt))
		tries, verified = append(tries, int32(d.Tries)), append(verified, d.VerifiedAt) //nolint:gosec // a counter
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := b.Exec(ctx, `
		update deployment d set state = new.state, wait = new.wait, reason = new.reason, message = new.message, tries = new.tries,
			receipt = new.receipt::jsonb, verified_at = coalesce(new.verified, d.verified_at), updated_at = now()
		from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::timestamptz[])
			as new(id, state, wait, reason, message, tries, receipt, verified)
		where d.id = new.id`, ids, states, waits, reasons, messages, tries, receipts, verified)
	return err
}
