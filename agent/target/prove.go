package target

import (
	"context"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// Times of probing.
const (
	probeDeadline = 10 * time.Second
	probeReloads  = 3 // a daemon in the middle of a reload may miss the signal for the next
	probeFirst    = time.Millisecond
	probeLongest  = 50 * time.Millisecond
	probeAgree    = 3   // answers in a row of the first name
	probeTries    = 100 // at least, within a long patience
)

// await probes until the expected leaf is served, or time is up. It has the daemon
// reload again now and then, until it does.
func (t *Target) await(ctx context.Context, names []string, want certctl.Digest) (served []certctl.Served, err error) {
	for n := range probeReloads {
		if n > 0 {
			if err := t.driver.reload(ctx); err != nil {
				return served, err
			}
		}
		if served, err = t.prober().await(ctx, names, want); err == nil || ctx.Err() != nil {
			break
		}
	}
	return served, err
}

// proveCurrent waits until the daemon serves the leaf that is current at a place,
// if there is one and it can be asked.
func (t *Target) proveCurrent(ctx context.Context, p place) error {
	n, err := p.number()
	if err != nil || n == 0 || len(t.driver.addresses()) == 0 {
		return err
	}
	facts, err := p.leaf(n)
	if err != nil {
		return err
	}
	_, err = t.await(ctx, serverNames(facts.Names), facts.Fingerprint)
	return err
}

// Prober asks listeners what they serve.
type Prober struct {
	Addresses []string      // see probe.Address
	Patience  time.Duration // of Await
}

// prober asks the target's own, for its share of the time.
func (t *Target) prober() Prober {
	return Prober{Addresses: t.driver.addresses(), Patience: probeDeadline / probeReloads}
}

// Await probes until the leaf is served for every name, three times in a row, or
// patience ends.
func (p Prober) Await(ctx context.Context, names certctl.Names, want certctl.Digest) ([]certctl.Served, error) {
	return p.await(ctx, serverNames(names), want)
}

// Serves reports what is served now, and whether it is the leaf.
func (p Prober) Serves(ctx context.Context, names certctl.Names, want certctl.Digest) ([]certctl.Served, bool) {
	served, err := p.probe(ctx, serverNames(names), want)
	return served, err == nil && agree(served, want)
}

func (p Prober) await(ctx context.Context, names []string, want certctl.Digest) ([]certctl.Served, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	wait, longest := probeFirst, max(probeLongest, p.Patience/probeTries)
	for inRow := 0; ; {
		served, err := p.probe(ctx, names, want)
		if err == nil && agree(served, want) {
			if inRow++; inRow == probeAgree {
				return served, nil
			}
			continue
		}
		inRow = 0
		timer := time.NewTimer(wait)
		wait = min(2*wait, longest)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return served, p.notServed(served, want, err)
		}
	}
}

func agree(served []certctl.Served, want certctl.Digest) bool {
	for _, s := range served {
		if s.Fingerprint != want {
			return false
		}
	}
	return len(served) > 0
}

func (p Prober) notServed(served []certctl.Served, want certctl.Digest, err error) error {
	for _, s := range served {
		if s.Fingerprint != want {
			return certctl.Errorf(certctl.Conflict, "%s still serves %s for %q after %s", s.Address, s.Fingerprint, s.ServerName, max(p.Patience, probeDeadline)).
				WithRemedy("does the daemon's configuration name the files of this place, and does it listen there?")
		}
	}
	return certctl.Wrap(certctl.Unavailable, err, "the listener does not answer")
}

// probe asks every listener for every name, until one serves something else than
// it should.
func (p Prober) probe(ctx context.Context, names []string, want certctl.Digest) ([]certctl.Served, error) {
	var all []certctl.Served
	for _, address := range p.Addresses {
		for _, name := range names {
			served, err := probe.TLS(ctx, address, name)
			if err != nil {
				return all, err
			}
			all = append(all, served)
			if served.Fingerprint != want {
				return all, nil
			}
		}
	}
	return all, nil
}

// serverNames are what to send as SNI: DNS names, a name below each wildcard,
// and no name at all for a certificate without any.
func serverNames(n certctl.Names) []string {
	var names []string
	for _, name := range n.DNS {
		if rest, wildcard := strings.CutPrefix(name, "*."); wildcard {
			name = "certctl-probe." + rest
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		names = append(names, "")
	}
	return names
}
