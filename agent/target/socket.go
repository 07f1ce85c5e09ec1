package target

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

var socketKind = ServiceKind(Descriptor{Kind: "socket", Title: "Programs that ask the agent, at a socket"},
	func(l *unixsock.Listener) Outlet {
		return startSocket(l, socketLimits{read: 10 * time.Second, write: 10 * time.Second, idle: time.Minute})
	})

// socketLimits bound who is slow.
type socketLimits struct {
	read, write time.Duration // of one request, and of one answer
	idle        time.Duration // between two requests
}

// recently is how long somebody who has asked counts as one who asks, and how long
// after its beginning an outlet expects those of before to come back.
const recently = time.Minute

// socketOutlet hands out certificates over HTTP; see handler.
type socketOutlet struct {
	start  time.Time
	began  string // distinguishes its tags from those of another
	limits socketLimits
	server *http.Server
	ended  chan struct{}

	mu      sync.Mutex // guards all below
	handed  int        // how many times
	current map[string]*offer
	asks    map[string]*asking
	news    chan struct{} // closed and made anew with each change
}

// offer is a certificate as it was handed out. What is handed out again, after it was
// gone or refused, has another tag, so that programs load it again and say so.
type offer struct {
	Current
	tag     string
	want    int // programs that were waiting for it
	took    int // and those that have said that they use it
	refusal string
}

// asking is what is known of those who ask for a place.
type asking struct {
	waiting int       // now
	last    time.Time // when one did
}

var _ Outlet = (*socketOutlet)(nil)

// startSocket serves at a listener until it is closed.
func startSocket(listener *unixsock.Listener, limits socketLimits) *socketOutlet {
	start := time.Now()
	o := &socketOutlet{
		start: start, began: strconv.FormatInt(start.UnixNano(), 36), limits: limits, ended: make(chan struct{}),
		current: map[string]*offer{}, asks: map[string]*asking{}, news: make(chan struct{}),
	}
	o.server = &http.Server{
		Handler: o.handler(), ReadHeaderTimeout: limits.read, IdleTimeout: limits.idle, MaxHeaderBytes: 8 << 10,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go func() {
		_ = o.server.Serve(listener) // it ends with the listener
		close(o.ended)
		_ = o.server.Close() // its connections are closed
	}()
	return o
}

// Ended is Outlet's.
func (o *socketOutlet) Ended() <-chan struct{} { return o.ended }

// Offer is Outlet's.
func (o *socketOutlet) Offer(changed []Current, gone []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range changed {
		o.handed++
		made := &offer{Current: c, tag: o.began + "." + strconv.Itoa(o.handed)}
		last := o.start
		if a := o.asks[c.Name]; a != nil {
			made.want, last = a.waiting, a.last
		}
		if time.Since(last) < recently {
			made.want = max(made.want, 1)
		}
		o.current[c.Name] = made
	}
	for _, name := range gone {
		delete(o.current, name)
	}
	o.wake()
	return nil
}

// wake wakes who waits for news. The lock is held.
func (o *socketOutlet) wake() {
	close(o.news)
	o.news = make(chan struct{})
}

// asksFor notes that somebody asks for a name that is handed out, or may be; who asks for
// anything else leaves nothing behind.
func (o *socketOutlet) asksFor(name string, waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.asks[name]
	if a == nil {
		a = &asking{}
		o.asks[name] = a
	}
	a.waiting += waiting
	a.last = time.Now()
	if a.waiting == 0 && o.current[name] == nil {
		delete(o.asks, name)
	}
}

// get returns what is current under a name, nil for nothing, and what closes with the
// next news.
func (o *socketOutlet) get(name string) (current *offer, news <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current[name], o.news
}

// list returns all that is current.
func (o *socketOutlet) list() []*offer {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]*offer, 0, len(o.current))
	for _, c := range o.current {
		all = append(all, c)
	}
	return all
}

// report notes what a program says, if it is about what is current.
func (o *socketOutlet) report(name, tag, refusal string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.current[name]
	if c == nil || c.tag != tag {
		return false
	}
	if refusal != "" {
		c.refusal = refusal
	} else {
		c.took++
	}
	o.wake()
	return true
}

// Loaded is Outlet's.
func (o *socketOutlet) Loaded(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.current[name]
	return c != nil && c.took > 0 && c.refusal == ""
}

// Await is Outlet's. Who has not asked for the name is not waited for.
func (o *socketOutlet) Await(ctx context.Context, name string) error {
	for {
		o.mu.Lock()
		c, news := o.current[name], o.news
		var refusal string
		done := c == nil
		if c != nil {
			refusal, done = c.refusal, c.took >= c.want
		}
		o.mu.Unlock()
		if refusal != "" {
			return certctl.Errorf(certctl.Conflict, "a program cannot use %s: %s", name, refusal).
				WithRemedy("what does the program's own log say?")
		}
		if done {
			return nil
		}
		select {
		case <-news:
		case <-o.ended:
			return nil
		case <-ctx.Done():
			return nil // who serves it is for the probe to see
		}
	}
}
