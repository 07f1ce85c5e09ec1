package bus

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
)

// HandlerFunc does what a hint says may be waiting. Its error is the outcome:
//
//	nil             done: the hint is gone
//	Retry(after)    the same hint again soon, a few times; then the dispatcher's
//	any other error the same as Retry; what must not be tried again is a row's
//	                business, not a message's
//	Discard(reason) of no use to anybody: the hint is gone, with a line in the log
//	a panic         logged; the hint comes again, and after five deliveries
//	                without an outcome it is a dead letter
//
// ctx ends at the deadline of the verb.
type HandlerFunc func(ctx context.Context, hint certctl.Hint) error

// HandleOptions bound the work of one verb in one lane of this process. Limits of
// issuers are in the database and hold for all processes together.
type HandleOptions struct {
	Concurrency int           // calls at a time; default 1
	Deadline    time.Duration // of one call; default 1 minute
	// Batch merges hints that wait into one call of at most so many ids; default
	// 1: each hint by itself. Hints that were delivered before are never merged.
	Batch int
}

// DeadLetters records messages that were given up. A message is recorded under
// the same id however often that is tried.
type DeadLetters interface {
	RecordDeadLetter(ctx context.Context, letter certctl.DeadLetter) error
}

// RouterOptions are the parts of a Router.
type RouterOptions struct {
	// Lanes returns the issuers whose work this process takes.
	Lanes       func(ctx context.Context) ([]string, error)
	DeadLetters DeadLetters
	Log         zerolog.Logger
	Drain       time.Duration // how long calls may go on when Run ends; default 20 s
	// Done is told of each call and each message that had none; nil: nobody is.
	Done func(verb certctl.HintVerb, outcome Outcome, took time.Duration)
}

// Outcome is what became of a hint, for counting.
type Outcome string

// The outcomes.
const (
	OutcomeDone    Outcome = "done"
	OutcomeRetry   Outcome = "retry"   // comes again
	OutcomeDropped Outcome = "dropped" // asked for again too often; the dispatcher's now
	OutcomeDiscard Outcome = "discard"
	OutcomePanic   Outcome = "panic"
	OutcomeHung    Outcome = "hung" // did not return at its deadline
	OutcomeUnknown Outcome = "unknown"
	OutcomeDead    Outcome = "dead"
)

// Defaults and times of a Router.
const (
	defaultDeadline = time.Minute
	defaultDrain    = 20 * time.Second
	lanesEvery      = 15 * time.Second
	hungGrace       = 2 * time.Second // between a call's deadline and giving it up
)

// lanedVerbs are those whose lane is an issuer, so that a slow one holds up no
// other; the rest have NoLane.
var lanedVerbs = []certctl.HintVerb{certctl.HintIssue, certctl.HintRevoke, certctl.HintAbandon, certctl.HintRenewalInfo, certctl.HintTrial}

// handler is what one verb does.
type handler struct {
	fn HandlerFunc
	o  HandleOptions
}

// Router takes hints from the bus and calls the handlers of their verbs.
type Router struct {
	conn     *Conn
	o        RouterOptions
	handlers map[certctl.HintVerb]handler
	refresh  chan struct{} // capacity 1
	ackWait  time.Duration
	grace    time.Duration
	now      func() time.Time
}

// NewRouter returns a router without handlers.
func NewRouter(conn *Conn, o RouterOptions) *Router {
	if o.Drain == 0 {
		o.Drain = defaultDrain
	}
	if o.Done == nil {
		o.Done = func(certctl.HintVerb, Outcome, time.Duration) {}
	}
	return &Router{
		conn: conn, o: o, handlers: make(map[certctl.HintVerb]handler), refresh: make(chan struct{}, 1),
		ackWait: ackWait, grace: hungGrace, now: time.Now,
	}
}

// Handle sets the handler of a verb. Call it before Run.
func (r *Router) Handle(verb certctl.HintVerb, fn HandlerFunc, o HandleOptions) {
	o.Concurrency, o.Batch = max(o.Concurrency, 1), min(max(o.Batch, 1), certctl.MaxHintIDs)
	if o.Deadline == 0 {
		o.Deadline = defaultDeadline
	}
	r.handlers[verb] = handler{fn: fn, o: o}
}

// RefreshLanes has Run ask for the lanes now: an issuer was made or archived.
func (r *Router) RefreshLanes() { wake(r.refresh) }

// Run takes hints until ctx ends. Then it asks for no more, lets the calls that
// are under way go on for at most Drain, and returns the error of ctx.
func (r *Router) Run(ctx context.Context) error {
	if r.o.DeadLetters == nil {
		return certctl.Errorf(certctl.Internal, "a router needs a place for dead letters")
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	running := &runningLanes{router: r, life: life, cancel: make(map[work]context.CancelFunc)}
	for ctx.Err() == nil {
		if err := r.updateLanes(ctx, running); err != nil && ctx.Err() == nil {
			r.o.Log.Warn().Err(err).Msg("the lanes cannot be listed; those that are known go on")
		}
		timer := time.NewTimer(lanesEvery)
		select {
		case <-ctx.Done():
		case <-r.refresh:
		case <-timer.C:
		}
		timer.Stop()
	}
	drained := time.AfterFunc(r.o.Drain, func() {
		end(certctl.Errorf(certctl.Unavailable, "this process is stopping"))
	})
	running.wg.Wait()
	drained.Stop()
	return ctx.Err()
}

// runningLanes are the lanes of one Run; only Run's goroutine uses it.
type runningLanes struct {
	router *Router
	life   context.Context // of calls: outlasts Run's by the drain
	cancel map[work]context.CancelFunc
	wg     sync.WaitGroup
}

// updateLanes starts lanes that are new and stops those that are gone.
func (r *Router) updateLanes(ctx context.Context, running *runningLanes) error {
	var lanes []string
	var err error
	if r.o.Lanes != nil {
		if lanes, err = r.o.Lanes(ctx); err != nil {
			lanes = nil
		}
	}
	wanted := make(map[work]bool)
	for verb := range r.handlers {
		if !slices.Contains(lanedVerbs, verb) {
			wanted[work{verb, certctl.NoLane}] = true
			continue
		}
		for _, lane := range lanes {
			wanted[work{verb, lane}] = true
		}
	}
	for w := range wanted {
		running.start(ctx, w)
	}
	for w, cancel := range running.cancel {
		if err == nil && !wanted[w] {
			cancel()
			delete(running.cancel, w)
		}
	}
	return err
}

// start runs a lane unless it runs.
func (l *runningLanes) start(ctx context.Context, w work) {
	if _, ok := l.cancel[w]; ok {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	l.cancel[w] = cancel
	lane := newLane(l.router, w)
	l.wg.Go(func() {
		defer cancel()
		lane.run(ctx, l.life)
	})
}
