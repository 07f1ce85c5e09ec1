package local

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy stands between programs and what they connect to, and can cut, silence or
// delay what goes through. Its fields are read by Start; its methods may be called
// from any goroutine.
type Proxy struct {
	// Network is "tcp" or "unix", of both sides.
	Network string
	// Listen is the address that programs connect to, Target where it leads.
	Listen, Target string

	listener net.Listener
	group    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	cut    bool
	silent chan struct{} // closed when a silence ends; nil without one
	delay  time.Duration
	conns  map[net.Conn]bool
}

// Start begins to listen.
func (p *Proxy) Start(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, p.Network, p.Listen)
	if err != nil {
		return err
	}
	p.listener, p.conns = listener, map[net.Conn]bool{}
	p.group.Go(p.accept)
	return nil
}

// Cut ends all connections and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.Drop()
}

// Drop ends all connections; new ones are taken.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close() // that is its purpose
	}
}

// Silence lets nothing through until Heal, and refuses nothing: as a network that
// is parted, where packets are lost and nobody says so. What was said meanwhile
// arrives then.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent == nil {
		p.silent = make(chan struct{})
	}
}

// Heal ends Cut, Silence and Delay.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent != nil {
		close(p.silent)
	}
	p.cut, p.silent, p.delay = false, nil, 0
}

// listen waits for the end of a silence, and returns the delay that holds.
func (p *Proxy) listen() time.Duration {
	for {
		p.mu.Lock()
		silent, delay := p.silent, p.delay
		p.mu.Unlock()
		if silent == nil {
			return delay
		}
		<-silent
	}
}

// Delay holds back everything that arrives from now on for a time, in each
// direction.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Stop ends everything.
func (p *Proxy) Stop(context.Context) error {
	err := p.listener.Close()
	p.Heal()
	p.Cut()
	p.group.Wait()
	return err
}

// Name is the name used in messages.
func (p *Proxy) Name() string { return "proxy of " + p.Target }

// Done is never closed: a proxy does not end by itself.
func (p *Proxy) Done() <-chan struct{} { return nil }

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.group.Go(func() { p.serve(near) })
		}
	}
}

// serve passes on what comes from either side until one of them ends.
func (p *Proxy) serve(near net.Conn) {
	defer near.Close()
	if !p.hold(near) {
		return
	}
	defer p.release(near)
	p.listen()
	far, err := net.Dial(p.Network, p.Target)
	if err != nil {
		return
	}
	defer far.Close()
	if !p.hold(far) {
		return
	}
	defer p.release(far)
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		p.group.Go(func() {
			p.pass(pair[1], pair[0])
			ended <- struct{}{}
		})
	}
	<-ended
}

// pass copies with the delay that holds when something arrives.
func (p *Proxy) pass(to io.Writer, from io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			<-time.After(p.listen())
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold keeps a connection for Drop, unless all are cut.
func (p *Proxy) hold(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.conns[conn] = true
	}
	return !p.cut
}

func (p *Proxy) release(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}
