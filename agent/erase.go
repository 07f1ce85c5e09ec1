package agent

import (
	"slices"

	"github.com/certctl/certctl"
)

// Eraser is a target that keeps earlier generations of its places. Erase removes
// those of them that hold the key, and is a Conflict when the current one does.
type Eraser interface {
	Erase(place string, slot certctl.Slot, spki certctl.Digest) error
}

// eraseKey erases a compromised key: the generations that hold it, then the key's
// own file, then what the journal says of it, together with the report. A crash
// in between leaves less of the key and the command open. Nothing is done while
// the key is in service.
func (a *Agent) eraseKey(j job) {
	a.keysInUse.RLock()
	defer a.keysInUse.RUnlock()
	if a.workCtx.Err() != nil {
		return
	}
	spki := j.erase.SPKI
	if err := a.eraseFiles(spki); err != nil {
		code := string(certctl.ErrorCode(err))
		if certctl.ErrorCode(err) == certctl.Conflict {
			code = certctl.CodeKeyInService
		}
		a.refuse(j.statement, code, err)
		return
	}
	a.at(FaultKeyErased)
	report, err := a.statement(certctl.ReportErased, j.statement.Object, j.statement.Number, certctl.Refusal{})
	if err != nil {
		a.problem("report", err)
		return
	}
	a.log.Warn().Stringer("erasure", j.erase.Erasure).Stringer("spki", spki).Msg("compromised key erased")
	a.commit(func() []Change { return append(a.erasedChanges(spki), reportChange(report)) })
}

// eraseFiles removes the generations that hold a key, and its file.
func (a *Agent) eraseFiles(spki certctl.Digest) error {
	var holding []bindingRecord
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if !a.journal.Get(key, &record) || record.Forgotten {
			continue
		}
		i := slices.IndexFunc(record.Keys, func(use keyUse) bool { return use.SPKI == spki })
		if i == 0 || record.Pending == spki {
			return certctl.Errorf(certctl.Conflict, "the key is in service at %s", record.Place).
				WithRemedy("it is erased once its replacement is verified")
		}
		if i > 0 {
			holding = append(holding, record)
		}
	}
	for _, record := range holding {
		if err := a.eraseGenerations(record, spki); err != nil {
			return err
		}
	}
	return a.store.Erase(spki)
}

// eraseGenerations removes the earlier generations of a binding that hold a key.
func (a *Agent) eraseGenerations(record bindingRecord, spki certctl.Digest) error {
	target, err := a.open(record.Target)
	if err != nil {
		return err
	}
	if eraser, keeps := target.(Eraser); keeps && record.Place != "" {
		return eraser.Erase(record.Place, record.Slot, spki)
	}
	return nil
}

// erasedChanges are the journal's changes after a key has been erased: no
// generation has it, no order can be answered with it, no renewal begins with it.
func (a *Agent) erasedChanges(spki certctl.Digest) []Change {
	var changes []Change
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if a.journal.Get(key, &record) && slices.ContainsFunc(record.Keys, func(use keyUse) bool { return use.SPKI == spki }) {
			record.Keys = slices.DeleteFunc(record.Keys, func(use keyUse) bool { return use.SPKI == spki })
			changes = append(changes, Change{key, record})
		}
	}
	for _, key := range a.journal.Keys("order/") {
		var record orderRecord
		if a.journal.Get(key, &record) && record.SPKI == spki {
			changes = append(changes, Change{key, nil})
		}
	}
	for _, key := range a.journal.Keys("next/") {
		var record nextRecord
		if a.journal.Get(key, &record) && record.SPKI == spki {
			changes = append(changes, Change{key, nil})
		}
	}
	return changes
}

// eraseOldGenerations removes the previous generations whose leaf ended more than
// 7 days ago; their keys are no longer kept from then on. Targets may take their time
// over it, so that nothing else waits: it is done where nobody is at it already, and
// beside installations.
func (a *Agent) eraseOldGenerations() {
	if !a.erasing.TryLock() {
		return
	}
	defer a.erasing.Unlock()
	a.keysInUse.RLock()
	defer a.keysInUse.RUnlock()
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if !a.journal.Get(key, &record) || record.Forgotten || len(record.Keys) < 2 {
			continue
		}
		old := slices.DeleteFunc(slices.Clone(record.Keys[1:]), func(use keyUse) bool { return a.now().Before(use.NotAfter.Add(keepOldKeys)) })
		for _, use := range old {
			if err := a.eraseGenerations(record, use.SPKI); err != nil {
				a.problem("generations", err) // tried again with the next tidying
				continue
			}
			a.commit(func() []Change { return a.droppedUse(key, use.SPKI) })
		}
	}
}

// droppedUse takes a key out of a binding's earlier generations.
func (a *Agent) droppedUse(key string, spki certctl.Digest) []Change {
	var record bindingRecord
	if !a.journal.Get(key, &record) || len(record.Keys) < 2 {
		return nil
	}
	record.Keys = append(record.Keys[:1:1], slices.DeleteFunc(slices.Clone(record.Keys[1:]), func(use keyUse) bool { return use.SPKI == spki })...)
	return []Change{{key, record}}
}
