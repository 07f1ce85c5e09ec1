package agent

import (
	"crypto"
	"crypto/x509"

	"github.com/certctl/certctl"
)

// sharedInfo is what a shared key's ciphertext is bound to.
func sharedInfo(holder, recipient certctl.ID, spki certctl.Digest, number int64) certctl.SealInfo {
	return certctl.SealInfo{Purpose: certctl.SealSharedKey, Object: holder, Agent: recipient, SPKI: spki, Number: number}
}

// sealFor seals a key for the other members of its holder. A recipient counts
// only with the pinned fleet key's signature on its sealing key: whoever else is
// named is refused, and does not keep the others from getting theirs.
func (a *Agent) sealFor(recipients []certctl.Statement, holder certctl.ID, key crypto.Signer, number int64) (
	sealed []certctl.SealedKey, refused []certctl.RefusedRecipient, err error,
) {
	if len(recipients) == 0 {
		return nil, nil, nil
	}
	if len(recipients) > certctl.MaxRecipients || holder.IsZero() {
		return nil, nil, certctl.Errorf(certctl.Invalid, "a command to share a key names its holder and at most %d recipients", certctl.MaxRecipients)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, certctl.Wrap(certctl.Internal, err, "the key cannot be encoded")
	}
	spki, err := certctl.SPKIHash(key.Public())
	if err != nil {
		return nil, nil, err
	}
	for _, word := range recipients {
		recipient, keys, err := certctl.ProvenAgent(word, a.id.FleetKey, a.id.Installation)
		if err != nil || recipient == a.id.Agent {
			a.state.forged()
			a.log.Warn().Stringer("holder", holder).Stringer("recipient", word.Agent).Err(err).Msg("recipient of a shared key refused")
			refused = append(refused, certctl.RefusedRecipient{Agent: word.Agent, Code: certctl.RefusedUnproven})
			continue
		}
		ciphertext, err := certctl.SealTo(keys.Sealing, sharedInfo(holder, recipient, spki, number), der)
		if err != nil {
			return nil, nil, err
		}
		sealed = append(sealed, certctl.SealedKey{Agent: recipient, Ciphertext: ciphertext})
	}
	return sealed, refused, nil
}

// shareKeys carries out the commands to share among a batch, and returns the
// others. The caller holds keysInUse.
func (a *Agent) shareKeys(batch []job) (rest []job) {
	for _, j := range batch {
		switch {
		case j.share == nil:
			rest = append(rest, j)
		case a.workCtx.Err() == nil:
			a.share(j)
		}
	}
	return rest
}

// share seals a key that this node has for other members of its holder.
func (a *Agent) share(j job) {
	key, err := a.store.Get(j.share.SPKI)
	if holder, known := a.sharedKey(j.share.SPKI); err == nil && (!known || holder != j.share.Holder) {
		a.refuse(j.statement, "not_shared", certctl.Errorf(certctl.Denied, "the key %s was not made to be shared by this holder", j.share.SPKI))
		return
	}
	if err != nil {
		a.refuse(j.statement, "key_missing", err)
		return
	}
	body := certctl.SharedReport{Holder: j.share.Holder, SPKI: j.share.SPKI}
	if body.Sealed, body.Refused, err = a.sealFor(j.share.Recipients, j.share.Holder, key, j.statement.Number); err != nil {
		a.refuse(j.statement, "seal", err)
		return
	}
	answer, err := a.statement(certctl.ReportShared, j.share.Holder, j.statement.Number, body)
	if err != nil {
		a.refuse(j.statement, "seal", err)
		return
	}
	a.log.Info().Stringer("holder", j.share.Holder).Str("certificate", certctl.Clip(j.share.CertificateName, 100)).
		Stringer("spki", j.share.SPKI).Int("sealed", len(body.Sealed)).Int("refused", len(body.Refused)).Msg("key shared")
	a.commit(func() []Change { return []Change{reportChange(answer)} })
}

// sharedKey returns whose members a key that this node knows may be sealed for;
// the absent holder stands for a key of its own.
func (a *Agent) sharedKey(spki certctl.Digest) (holder certctl.ID, known bool) {
	for _, name := range a.journal.Keys("order/") {
		var record orderRecord
		if a.journal.Get(name, &record) && record.SPKI == spki {
			return record.Holder, true
		}
	}
	for _, name := range a.journal.Keys("binding/") {
		var record bindingRecord
		if !a.journal.Get(name, &record) {
			continue
		}
		for _, use := range record.Keys {
			if use.SPKI == spki {
				return use.Holder, true
			}
		}
	}
	return certctl.NoID, false
}

// sharedBy returns the holder of the key that an install command is for. What
// this node knows of a key outlasts what a command says: no command makes a key
// of its own one that may be shared.
func (a *Agent) sharedBy(c *certctl.InstallCommand) certctl.ID {
	if c.Holder.IsZero() {
		return certctl.NoID
	}
	if holder, known := a.sharedKey(c.SPKI); known {
		return holder
	}
	return c.Holder
}
