package agent

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// driftEvery is how often installed files are held against what was installed.
const driftEvery = 10 * time.Minute

// drift is what the last look at the installed files has found. The server hears
// of it with the next mailbox request.
type drift struct {
	news  chan struct{} // capacity 1: ask
	mu    sync.Mutex
	found map[certctl.ID]string // by binding
}

// of returns how a binding's files differ, or "".
func (d *drift) of(binding certctl.ID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found[binding]
}

// tell has the server asked, which is told with that.
func (d *drift) tell() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// watchFiles looks at the installed files now and then, and asks the server at
// once when they differ. The first look is Run's, before the first question.
func (a *Agent) watchFiles(ctx context.Context) error {
	for sleep(ctx, a.driftEvery) {
		if a.inspect(ctx, false) {
			a.drift.tell()
		}
	}
	return ctx.Err()
}

// inspect looks at the files of every binding of the near targets, or of the distant
// ones, and reports whether any has drifted since the last time. Of a target that once
// does not answer in time nothing else is asked.
func (a *Agent) inspect(ctx context.Context, distant bool) (news bool) {
	found, others, silent := map[certctl.ID]string{}, map[certctl.ID]bool{}, map[certctl.ID]bool{}
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if !a.journal.Get(key, &record) || record.Forgotten || record.Version.IsZero() || record.Place == "" || len(record.Keys) == 0 {
			continue
		}
		target, err := a.open(record.Target)
		if err != nil {
			continue // its next command says why
		}
		if isDistant(target) != distant {
			others[idOf(key)] = true
			continue
		}
		inspector, ok := target.(Inspector)
		if !ok {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		err = a.inspectOne(ctx, inspector, record, silent)
		switch {
		case err == nil || !a.unchanged(key, record):
		case certctl.ErrorCode(err) != certctl.Unavailable:
			found[idOf(key)] = certctl.Clip(safeMessage(err), 300)
		case a.drift.of(idOf(key)) != "":
			found[idOf(key)] = a.drift.of(idOf(key)) // another host that cannot be asked is as it was
		}
	}
	a.drift.mu.Lock()
	defer a.drift.mu.Unlock()
	for binding, how := range a.drift.found {
		if others[binding] {
			found[binding] = how
		}
	}
	for binding, how := range found {
		if a.drift.found[binding] == "" {
			news = true
			a.log.Warn().Stringer("binding", binding).Str("drift", how).Msg("installed files were changed")
		}
	}
	a.drift.found = found
	return news
}

// unchanged reports whether a binding's record is still the one that was looked
// at, and nothing is being installed: that is no drift.
func (a *Agent) unchanged(key string, seen bindingRecord) bool {
	var now bindingRecord
	return a.lanes.idle() && a.journal.Get(key, &now) && now.Version == seen.Version && now.Number == seen.Number
}
