package challenge

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/certctl/certctl"
)

// Places are where a node may answer.
type Places struct {
	HTTP     string   // address to listen on for http-01; "": nowhere
	TLS      string   // address to listen on for tls-alpn-01; "": nowhere
	Webroots []string // folders that a web server serves at /, for http-01
}

// Keeper holds sets of proofs. It is safe for concurrent use.
type Keeper struct {
	places Places

	mu   sync.Mutex // guards all below
	sets []heldSet  // oldest first
	http *listener
	tls  *listener
}

// heldSet are the proofs that are held, and dropped, together.
type heldSet struct {
	id     certctl.ID
	proofs []certctl.Proof
	certs  map[string]*certificate // of tls-alpn-01, by server name
}

// NewKeeper returns a keeper of nothing.
func NewKeeper(places Places) *Keeper {
	k := &Keeper{places: places}
	k.http = newListener(places.HTTP, k.serveHTTP)
	k.tls = newListener(places.TLS, k.serveTLS)
	return k
}

// Webroots are the folders that files are written to.
func (k *Keeper) Webroots() []string { return k.places.Webroots }

// Hold answers with the proofs of a set, in place of what it was before, from when
// it returns. With an error it answers with none of them.
func (k *Keeper) Hold(id certctl.ID, proofs []certctl.Proof) error {
	set := heldSet{id: id, proofs: proofs, certs: map[string]*certificate{}}
	for _, p := range proofs {
		if err := p.Check(); err != nil {
			return err
		}
		if p.Type == certctl.ProofTLS {
			cert, err := makeCertificate(p)
			if err != nil {
				return err
			}
			set.certs[serverName(p.Identifier)] = cert
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.find(id).proofs
	k.forget(id)
	k.sets = append(k.sets, set)
	err := errors.Join(k.removeFiles(before, k.places.Webroots), k.writeFiles(proofs), k.listen())
	if err != nil {
		k.forget(id)
		err = errors.Join(err, k.removeFiles(proofs, k.places.Webroots), k.listen())
	}
	return err
}

// Drop answers with the proofs of a set no more, and removes the files that were
// written for them to the webroots of now and of then.
func (k *Keeper) Drop(id certctl.ID, proofs []certctl.Proof, webroots []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(id)
	roots := slices.Concat(k.places.Webroots, webroots)
	slices.Sort(roots)
	return errors.Join(k.removeFiles(proofs, slices.Compact(roots)), k.listen())
}

// Close ends the listeners. Files stay for the web server, which goes on.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sets = nil
	k.http.stop()
	k.tls.stop()
}

func (k *Keeper) find(id certctl.ID) heldSet {
	for _, set := range k.sets {
		if set.id == id {
			return set
		}
	}
	return heldSet{}
}

func (k *Keeper) forget(id certctl.ID) {
	k.sets = slices.DeleteFunc(k.sets, func(s heldSet) bool { return s.id == id })
}

// listen has the listeners run that are needed, and no other.
func (k *Keeper) listen() error {
	return errors.Join(k.http.want(k.places.HTTP != "" && k.holds(certctl.ProofHTTP)), k.tls.want(k.places.TLS != "" && k.holds(certctl.ProofTLS)))
}

func (k *Keeper) holds(kind string) bool {
	return slices.ContainsFunc(k.sets, func(s heldSet) bool {
		return slices.ContainsFunc(s.proofs, func(p certctl.Proof) bool { return p.Type == kind })
	})
}

// answer is what proves a token over HTTP.
func (k *Keeper) answer(token string) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answerHeld(token)
}

func (k *Keeper) answerHeld(token string) (string, bool) {
	for _, set := range k.sets {
		for _, p := range set.proofs {
			if p.Type == certctl.ProofHTTP && p.Token == token {
				return p.Answer, true
			}
		}
	}
	return "", false
}

// certificateFor is what proves a name within a handshake: the newest, since a CA
// that was told twice counts the second time.
func (k *Keeper) certificateFor(name string) *certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, set := range slices.Backward(k.sets) {
		if cert := set.certs[strings.ToLower(strings.TrimSuffix(name, "."))]; cert != nil {
			return cert
		}
	}
	return nil
}
