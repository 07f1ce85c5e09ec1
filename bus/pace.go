package bus

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// pace spreads the reconnects of many: attempt n comes after a time that is
// uniform in [0, unit · 2^min(n-1, most)), the first attempt included. Nine
// thousand agents that all come back at once cost a broker minutes of handshakes
// that time out; spread, they are back within one.
type pace struct {
	unit time.Duration
	most uint // doublings
	rand func(time.Duration) time.Duration
}

// Agents are many and can wait; the server roles are few and cannot.
var (
	paceAgent    = pace{unit: 30 * time.Second, most: 3, rand: uniform}
	pacePlatform = pace{unit: 250 * time.Millisecond, most: 3, rand: uniform}
)

func uniform(limit time.Duration) time.Duration { return rand.N(limit) }

// delay returns the wait before attempt n, counted from 1.
func (p pace) delay(n uint) time.Duration {
	return p.rand(p.unit << min(n-1, p.most))
}

// pacer applies a pace to one connection.
type pacer struct {
	pace pace
	mu   sync.Mutex
	n    uint // attempts since the last success
	now  bool // the next attempt is not to wait
}

// next chooses the server and the delay of the next attempt: the servers in
// turn.
func (p *pacer) next(servers []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	server := &servers[int(p.n%uint(len(servers)))]
	p.n++
	if p.now {
		p.now = false
		return server, 0
	}
	return server, p.pace.delay(p.n)
}

// hurry lets the next attempt come at once.
func (p *pacer) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = true
}

// reset is told of a success.
func (p *pacer) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.now = 0, false
}
