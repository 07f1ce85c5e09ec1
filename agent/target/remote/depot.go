package remote

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// depot is where a vendor keeps certificates with their keys, for listeners of its
// own. Its errors are Unavailable where the answer was lost, so that a change may
// have been made, and something else where it was not.
type depot interface {
	// find returns the id of what this target has put there for a name; "" for none.
	find(ctx context.Context, name string) (id string, err error)
	// get returns what is there, and whether it was made for the name; NotFound for nothing.
	get(ctx context.Context, id, name string) (held, error)
	// put replaces what is there, or makes it where the id is empty, and returns its id.
	put(ctx context.Context, id, name string, c contents) (string, error)
	// remove deletes it; Conflict while something uses it.
	remove(ctx context.Context, id string) error
	// takes refuses a leaf that the vendor does not take.
	takes(leaf certctl.Leaf) error
}

// held is what a depot tells: never the key.
type held struct {
	id    string
	facts certctl.Leaf // of the leaf; zero where it is none
	leaf  []byte
	chain certctl.Chain
	ours  bool // made by this target, for the place and slot that were asked for
	used  bool // by a listener, as far as the vendor knows
}

// contents is one certificate with its key, which the vendor does not give back:
// the proxy keeps those that it has put somewhere, to put them back.
type contents struct {
	Leaf  []byte        `json:"leaf"`
	Chain certctl.Chain `json:"chain,omitempty"`
	Key   []byte        `json:"key"` // PKCS #8
}

func (c *contents) fingerprint() certctl.Digest { return certctl.DigestOf(c.Leaf) }

// isOf reports whether they are what a command installs.
func (c *contents) isOf(command certctl.InstallCommand) bool {
	return c != nil && c.fingerprint() == command.Fingerprint && c.Chain.Digest() == command.Chain.Digest()
}

// depotTarget is a depot as a target: each place is one of its certificates.
//
//	get ─► ours? ─► does the vendor take such a key? ─► note what is to be ─► put ─► get, until it is there ─► probe ─► note that it is
//	         │                  │                                             │                │              │
//	         └──────────────────┴── refused: nothing has changed ─────────────┘                └──────────────┴─► put back what was
//
// What nothing uses yet is not probed: a certificate must be there before a
// listener can be told to serve it.
type depotTarget struct {
	name  string
	ids   map[string]string // of places that the settings give one, whoever made it
	env   target.Env
	state string // prefix of this target's files
	where string // the store, of which the notes are
	depot depot
	probe target.Prober
	busy  chan struct{} // holds one while somebody changes the target
}

var _ target.Opened = (*depotTarget)(nil)

// depotSettings are the settings that all kinds of depots have.
type depotSettings struct {
	// Listen are addresses to probe from this node, such as those of load balancers;
	// without one "loaded" is how it is verified.
	Listen []string `json:"listen,omitempty"`
	// WaitSeconds is how long the vendor's listeners may take to notice.
	WaitSeconds int `json:"wait_seconds,omitempty"`
}

// Bounds of wait_seconds, which a vendor may need to reach all its machines.
const (
	defaultDepotWait = 300
	maxDepotWait     = 900
)

func (s depotSettings) check(bad *certctl.FieldErrors) {
	checkListen(bad, s.Listen)
	if s.WaitSeconds < 1 || s.WaitSeconds > maxDepotWait {
		bad.Add("/settings/wait_seconds", "must be from 1 to %d", maxDepotWait)
	}
}

// open makes the target of a depot; where tells stores apart, since settings change.
func (s depotSettings) open(name, where string, ids map[string]string, d depot, env target.Env) (target.Opened, error) {
	if env.StateDir == "" {
		return nil, certctl.Errorf(certctl.Internal, "there is no folder for the state of targets")
	}
	if err := os.MkdirAll(env.StateDir, 0o700); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the folder for the state of targets cannot be made")
	}
	what := "store-" + env.Target.String()
	return &depotTarget{
		name: name, ids: ids, env: env, where: where, state: filepath.Join(env.StateDir, what), depot: d, busy: make(chan struct{}, 1),
		probe: target.Prober{Addresses: s.Listen, Patience: time.Duration(s.WaitSeconds) * time.Second},
	}, nil
}

// lock excludes others of this node from the target.
func (t *depotTarget) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case t.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, certctl.Wrap(certctl.Unavailable, ctx.Err(), "%s is being changed", t.name)
	}
	release, err := target.Lock(t.state + ".lock")
	if err != nil {
		<-t.busy
		return nil, err
	}
	return func() {
		release()
		<-t.busy
	}, nil
}

// depotName tells places and slots apart: no place has a "~".
func depotName(place string, slot certctl.Slot) (string, error) {
	if err := certctl.CheckPlace(place); err != nil {
		return "", err
	}
	if slot == "" || slot == certctl.SlotDefault {
		return place, nil
	}
	return place + "~" + string(slot), nil
}

// ofSlot is a name as settings have it: a place, or one with a slot.
func ofSlot(name string) (place string, slot certctl.Slot) {
	place, of, given := strings.Cut(name, "~")
	if slot = certctl.Slot(of); given && slot != certctl.SlotRSA && slot != certctl.SlotECDSA {
		return name, "" // which is no place
	}
	return place, slot
}

// look returns what is there under a name; nil for nothing.
func (t *depotTarget) look(ctx context.Context, name string, n *depotNote) (*held, error) {
	id, given := t.ids[name]
	if !given {
		id = n.ID
	}
	var err error
	if id == "" {
		if id, err = t.depot.find(ctx, name); err != nil || id == "" {
			return nil, err
		}
	}
	have, err := t.depot.get(ctx, id, name)
	switch {
	case err == nil:
		return &have, nil
	case certctl.ErrorCode(err) != certctl.NotFound:
		return nil, err
	case given:
		return nil, certctl.Wrap(certctl.Conflict, err, "%s, which the settings name for %s, is not there", id, name).
			WithRemedy("correct the settings, or leave it out there: then one is made")
	}
	n.ID = ""
	return nil, nil
}

// checkOwner refuses what somebody else has made, unless the settings name it.
func (t *depotTarget) checkOwner(name string, have *held) error {
	if have == nil || have.ours || t.ids[name] == have.id {
		return nil
	}
	return certctl.Errorf(certctl.Conflict, "%s is not this target's, or is of another place", have.id).
		WithRemedy("name it in the settings for the target to have it replaced, or bind another place")
}
