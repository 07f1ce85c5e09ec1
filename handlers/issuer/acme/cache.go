package acme

import (
	"crypto"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// directoryCache keeps a server's directory for a while: lego reads it for every
// conversation.
type directoryCache struct {
	mu   sync.Mutex // guards the rest
	body []byte
	at   time.Time
}

func (d *directoryCache) get() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) > directoryFresh {
		return nil
	}
	return d.body
}

func (d *directoryCache) put(body []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.at = body, time.Now()
}

// identity is an account with its opened key.
type identity struct {
	certctl.ExternalAccount
	key crypto.Signer
}

// identities keeps the accounts that this process has opened.
type identities struct {
	mu    sync.Mutex // guards known
	known map[string]identity
}

func (i *identities) get(name string) (identity, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	found, ok := i.known[name]
	return found, ok
}

func (i *identities) put(name string, id identity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil {
		i.known = map[string]identity{}
	}
	i.known[name] = id
}
