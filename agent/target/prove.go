package target

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// Times of probing.
const (
	probeDeadline = 10 * time.Second // of a small daemon; see Target.patience
	probePerPlace = 20 * time.Millisecond
	probePerCheck = 5 // times what its own check took
	probeReloads  = 3 // a daemon in the middle of a reload may miss the signal for the next
	probeFirst    = time.Millisecond
	probeLongest  = 50 * time.Millisecond
	probeAgree    = 3   // answers in a row of the first name
	probeTries    = 100 // at least, within a long patience
)

// await probes until the expected leaf is served, or time is up. It has the daemon
// reload again now and then, until it does.
func (t *Target) await(ctx context.Context, want Expected) (served []certctl.Served, err error) {
	for n := range probeReloads {
		if n > 0 {
			if err := t.driver.reload(ctx); err != nil {
				return served, err
			}
		}
		if served, err = t.prober().Await(ctx, want); err == nil || Unseen(err) || ctx.Err() != nil {
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
	if _, err = t.await(ctx, Expect(p.slot(), facts)); Unseen(err) {
		return nil
	}
	return err
}

// Prober asks listeners what they serve.
type Prober struct {
	Addresses []string      // see probe.Address
	Patience  time.Duration // of Await
	Awaits    int           // how often Await is called for one answer, for what is said then; 0: once
}

// prober asks the target's own, for its share of the time.
func (t *Target) prober() Prober {
	return Prober{Addresses: t.driver.addresses(), Patience: t.patience() / probeReloads, Awaits: probeReloads}
}

// patience is how long a daemon may take to serve what it was told to read. That
// grows with what it reads: by the places, which are known also after a crash, and by
// the time of its own check, which reads all of its configuration on this very node.
func (t *Target) patience() time.Duration {
	return probeDeadline + time.Duration(t.places)*probePerPlace + probePerCheck*t.checked
}

// Expected is a leaf that is to be seen served.
type Expected struct {
	names     []string // to ask with
	leaf      certctl.Digest
	signature probe.Signature // to ask for
}

// Expect is for a leaf in a slot. In one that is not the default there may be another
// leaf beside it, so that it is asked for by its kind of key.
func Expect(slot certctl.Slot, leaf certctl.Leaf) Expected {
	e := Expected{names: serverNames(leaf.Names), leaf: leaf.Fingerprint}
	switch {
	case slot == "" || slot == certctl.SlotDefault:
	case strings.HasPrefix(string(leaf.Algorithm), "rsa"):
		e.signature = probe.RSA
	default:
		e.signature = probe.ECDSA
	}
	return e
}

// ExpectInstalled is Expect for what a command installs.
func ExpectInstalled(c certctl.InstallCommand) Expected {
	leaf, err := certctl.ParseLeaf(c.Leaf)
	if err != nil {
		leaf = certctl.Leaf{} // its pair has been checked; and without a kind of key it would not be found
	}
	leaf.Names, leaf.Fingerprint = c.Names, c.Fingerprint
	return Expect(c.Slot, leaf)
}

// Unseen reports whether no listener serves anything wrong, and one does not let itself
// be asked for this leaf.
func Unseen(err error) bool { return errors.Is(err, probe.ErrOnlyTLS13) }

// UnseenMessage is what a receipt says then.
func UnseenMessage(err error) string {
	return certctl.ErrorMessage(err) + ": it chooses which certificate of a pair it shows, so that this one was not seen served"
}

// Await probes until the leaf is served for every name, three times in a row, or
// patience ends. See Unseen for how else it may end well.
func (p Prober) Await(ctx context.Context, want Expected) ([]certctl.Served, error) {
	deadline := time.Now().Add(p.Patience)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	wait, longest := probeFirst, max(probeLongest, p.Patience/probeTries)
	var served []certctl.Served
	var err error
	for inRow := 0; ; {
		now, is, nowErr := p.Serves(ctx, want)
		if time.Now().Before(deadline) || err == nil && served == nil {
			served, err = now, nowErr // what broke off at the end says less than the answer before
		}
		if is || Unseen(nowErr) {
			if inRow++; inRow == probeAgree {
				return now, nowErr
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
			return served, p.notServed(served, want.leaf, err)
		}
	}
}

// Serves reports what is served now, and whether it is the leaf.
func (p Prober) Serves(ctx context.Context, want Expected) (served []certctl.Served, is bool, err error) {
	served, err = p.probe(ctx, want)
	return served, err == nil && agree(served, want.leaf), err
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
			return certctl.Errorf(certctl.Conflict, "%s still serves %s for %q after %s", s.Address, s.Fingerprint, s.ServerName, p.Patience*time.Duration(max(p.Awaits, 1))).
				WithRemedy("does the daemon's configuration name the files of this place, and does it listen there?")
		}
	}
	return certctl.Wrap(certctl.Unavailable, err, "the listener does not answer")
}

// probe asks every listener for every name, until one serves something else than
// it should. A listener that cannot be asked leaves its error to the end.
func (p Prober) probe(ctx context.Context, want Expected) (all []certctl.Served, unseen error) {
	for _, address := range p.Addresses {
		for _, name := range want.names {
			served, err := probe.TLSOf(ctx, address, name, want.signature)
			if Unseen(err) && served.Fingerprint != want.leaf {
				unseen = err
				continue
			}
			if err != nil && !Unseen(err) {
				return all, err
			}
			all = append(all, served)
			if served.Fingerprint != want.leaf {
				return all, nil
			}
		}
	}
	return all, unseen
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
