package target

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

// Install is one command with the private key of its leaf.
type Install struct {
	Command certctl.InstallCommand
	Key     crypto.Signer
}

// Env is what a target needs of its node.
type Env struct {
	Target   certctl.ID // which one it is, whatever it is called; the table sets it
	Policy   Policy
	Now      func() time.Time
	StateDir string
	// Fault is called at named points; nil: never. Tests end the process there.
	Fault func(point string)
}

// Target is one daemon or store on this node. Its methods exclude each other, in
// this process and between processes.
type Target struct {
	name   string
	driver driver
	env    Env
	mu     sync.Mutex

	places  int           // folders in the directory; guarded by mu
	checked time.Duration // that the daemon's last check took which it passed; guarded by mu
}

// Open is that of the table of this package, for kinds of which the daemon is another's.
func Open(spec certctl.TargetCommand, env Env) (*Target, error) {
	d, err := Table(kinds).find(spec.Kind)
	if err != nil {
		return nil, err
	}
	if d.open == nil {
		return nil, certctl.InvalidField("/kind", "targets of kind %s are opened by a table", d.Kind)
	}
	return d.openHere(spec, env)
}

// lock excludes others from the target's directory.
func (t *Target) lock() (unlock func(), err error) {
	t.mu.Lock()
	path, err := t.lockFile()
	var release func()
	if err == nil {
		release, err = Lock(path)
	}
	if err != nil {
		t.mu.Unlock()
		return nil, err
	}
	return func() {
		release()
		t.mu.Unlock()
	}, nil
}

// Lock excludes other processes of this node, and others in this one, by a file.
func Lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil // which unlocks
}

// lockName is the file of a directory that is locked.
const lockName = ".certctl.lock"

// lockFile makes the target's directory and returns the file that is locked: in
// the directory, or, for one on another host, in the state of this node.
func (t *Target) lockFile() (string, error) {
	layout := t.driver.layout()
	if err := layout.disk().MakeDirs(layout.directory); err != nil {
		return "", err
	}
	if layout.other == nil {
		return filepath.Join(layout.directory, lockName), nil
	}
	name := certctl.DigestOf([]byte(layout.host + "\n" + layout.directory)).String()
	return filepath.Join(t.env.StateDir, name+".lock"), os.MkdirAll(t.env.StateDir, 0o700)
}

// Apply installs a batch and returns a receipt for each command, in their order.
func (t *Target) Apply(ctx context.Context, batch []Install) []certctl.Receipt {
	run := &run{target: t, receipts: map[certctl.ID]certctl.Receipt{}}
	if code, err := t.applyLocked(ctx, run, batch); err != nil {
		for _, install := range batch {
			run.fail(install.Command, certctl.OutcomeFailed, code, err)
		}
	}
	receipts := make([]certctl.Receipt, len(batch))
	for i, install := range batch {
		receipts[i] = run.receipts[install.Command.Deployment]
		receipts[i].At = t.env.Now().UTC()
	}
	return receipts
}

func (t *Target) applyLocked(ctx context.Context, run *run, batch []Install) (code string, err error) {
	unlock, err := t.lock()
	if err != nil {
		return "write_failed", err
	}
	defer unlock()
	names, err := t.driver.layout().disk().ReadDir(t.driver.layout().directory)
	if err != nil {
		return "write_failed", err
	}
	t.places = len(names) + len(batch) // at most: which of them are new is no matter
	if b, ok := t.driver.(batcher); ok {
		if err := b.begin(ctx, batch); err != nil {
			return "reload_failed", err
		}
		defer b.end(ctx, batch, run.receipts)
	}
	run.apply(ctx, batch)
	return "", nil
}

// Recover takes back switches that were not proven when the process died, and
// removes what was left half written.
func (t *Target) Recover(ctx context.Context) error {
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	layout := t.driver.layout()
	names, err := layout.disk().ReadDir(layout.directory)
	if err != nil {
		return err
	}
	t.places = len(names)
	var undone []place
	for _, name := range names {
		p := place{layout: layout, path: filepath.Join(layout.directory, name)}
		if _, err := layout.disk().Mode(filepath.Join(p.path, dirGeneration)); err != nil {
			continue // not ours
		}
		if previous, unproven := p.unproven(); unproven {
			undone = append(undone, p)
			if err := p.switchTo(previous); err != nil {
				return err
			}
		}
		current, err := p.number()
		if err == nil {
			err = p.prune(before(p, current))
		}
		if err != nil {
			return err
		}
	}
	return t.proveUndone(ctx, undone)
}

// proveUndone has the daemon read what Recover took back, and sees that it did:
// it may still be in the reload that the dead process asked for, with the files
// of then, and miss the next. A place that it does not prove stays unproven, and
// is recovered again.
func (t *Target) proveUndone(ctx context.Context, undone []place) error {
	if len(undone) == 0 {
		return nil
	}
	if err := t.driver.reload(ctx); err != nil {
		return err
	}
	for _, p := range undone {
		if err := t.proveCurrent(ctx, p); err != nil {
			return err
		}
		if err := p.proven(); err != nil {
			return err
		}
	}
	return nil
}

// before is the newest complete generation below n, which is kept to go back to.
func before(p place, n int) int {
	for n--; n > 0; n-- {
		if _, err := p.disk().Mode(p.generation(n)); err == nil {
			return n
		}
	}
	return 0
}

// Forget ends the management of a binding. The files stay, unless the command
// says otherwise and the daemon's configuration is sound without them.
func (t *Target) Forget(ctx context.Context, command certctl.ForgetCommand) error {
	if !command.Remove {
		return nil
	}
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := certctl.CheckPlace(command.Place); err != nil {
		return err
	}
	p := t.driver.layout().placeOf(command.Place, command.Slot)
	current, err := p.number()
	if err != nil || current == 0 {
		return err
	}
	if err := errors.Join(p.begin(current), p.switchTo(0)); err != nil {
		return err
	}
	if err := t.check(ctx, nil); err != nil {
		return errors.Join(certctl.Wrap(certctl.Conflict, err, "the configuration of %s still names the files", t.name).
			WithRemedy("take them out of the configuration first"), p.switchTo(current), p.proven())
	}
	if err := t.driver.reload(ctx); err != nil {
		return errors.Join(err, p.switchTo(current), p.proven())
	}
	return p.disk().RemoveAll(p.path)
}

// CheckPair holds an installation's parts against each other, and against the time.
func CheckPair(install Install, now time.Time) error {
	_, err := checkPair(install, now)
	return err
}

// checkPair holds the leaf against the command, the key and its chain. The
// daemons' own checks do not all notice a wrong key.
func checkPair(install Install, now time.Time) (*x509.Certificate, error) {
	c := install.Command
	leaf, err := x509.ParseCertificate(c.Leaf)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the leaf cannot be read")
	}
	facts, err := certctl.ParseLeaf(c.Leaf)
	if err != nil {
		return nil, err
	}
	spki, err := certctl.SPKIHash(install.Key.Public())
	switch {
	case err != nil:
		return nil, err
	case facts.Fingerprint != c.Fingerprint:
		return nil, certctl.Errorf(certctl.Invalid, "the leaf is not the one that the command names")
	case facts.SPKI != spki || facts.SPKI != c.SPKI:
		return nil, certctl.Errorf(certctl.Invalid, "the leaf is for another key than this node's")
	case !facts.Names.Equal(c.Names):
		return nil, certctl.Errorf(certctl.Invalid, "the leaf is for %v, the command for %v", facts.Names.Strings(), c.Names.Strings())
	case now.After(facts.NotAfter):
		return nil, certctl.Errorf(certctl.Invalid, "the leaf ended on %s, and this node's clock says %s",
			facts.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	child := leaf
	for _, der := range c.Chain {
		parent, err := x509.ParseCertificate(der)
		if err == nil {
			err = child.CheckSignatureFrom(parent)
		}
		if err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "the chain does not fit the leaf")
		}
		child = parent
	}
	return leaf, nil
}
