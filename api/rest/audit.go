package rest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/gorilla/mux"
)

// denials keeps one who tries a thousand times from filling the audit log: of
// each principal and operation, one refusal a second is recorded.
type denials struct {
	mu   sync.Mutex
	last map[denial]time.Time
}

type denial struct {
	principal certctl.ID
	operation string
}

const (
	denialEvery = time.Second
	denialsKept = 1000
)

// first reports whether this refusal is to be recorded.
func (d *denials) first(one denial, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.last[one]) < denialEvery {
		return false
	}
	if d.last == nil || len(d.last) >= denialsKept {
		d.last = map[denial]time.Time{}
	}
	d.last[one] = now
	return true
}

// verbs are what methods mean for the audit log.
var verbs = map[string]certctl.Verb{
	http.MethodGet: certctl.VerbRead, http.MethodPost: certctl.VerbCreate, http.MethodPut: certctl.VerbUpdate,
	http.MethodPatch: certctl.VerbUpdate, http.MethodDelete: certctl.VerbDelete,
}

// recordDenied writes into the audit log that somebody known tried what he may
// not. The answer does not wait for more than a second for it.
func (s *Server) recordDenied(r *http.Request, actor certctl.Actor) {
	operation := r.Method
	if route := mux.CurrentRoute(r); route != nil {
		if template, err := route.GetPathTemplate(); err == nil {
			operation += " " + template
		}
	}
	if actor.Principal.ID.IsZero() || !s.denials.first(denial{actor.Principal.ID, operation}, s.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Second)
	defer cancel()
	if err := s.store.RecordDenied(ctx, actor, verbs[r.Method], certctl.Object{}, operation); err != nil {
		s.Log.Error().Err(err).Str("operation", operation).Msg("a refusal was not recorded")
	}
}
