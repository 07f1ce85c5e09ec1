package bus

import "sync"

// beacon tells any number of listeners that something has happened. Signals that
// come while a listener is busy are one signal.
type beacon struct {
	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
}

// listen returns a channel that gets a value after each flash, and a function
// that ends it.
func (b *beacon) listen() (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = make(map[chan struct{}]struct{})
	}
	c := make(chan struct{}, 1)
	b.listeners[c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, c)
	}
}

// flash never blocks.
func (b *beacon) flash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners {
		wake(c)
	}
}

// wake gives c, whose capacity is 1, a value unless it has one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
