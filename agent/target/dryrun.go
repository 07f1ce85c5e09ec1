package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
)

// testTimeout bounds a test: listeners that do not answer take their time.
const testTimeout = time.Minute

// testNames is how many names of a place are probed at each address.
const testNames = 3

// dryRun is one Test.
type dryRun struct {
	target *Target
	about  certctl.ID // binding of the steps that are added
	steps  []certctl.TestStep
}

// Test does everything of an installation that changes nothing, and says for each
// step how it would end. What is staged is staged in memory, in a mount namespace
// that ends with the daemon's check.
func (t *Target) Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	unlock, err := t.lockAsIs()
	d := &dryRun{target: t}
	if err != nil {
		d.fails("directory", t.driver.layout().directory, err)
		return d.steps
	}
	defer unlock()
	d.directories()
	d.programs()
	staged := d.places(command.Places)
	if command.Left > 0 {
		d.add("place", "", certctl.StepSkipped, count(command.Left, "further place")+" of the target did not fit into this test", "")
	}
	d.check(ctx, staged)
	d.reload(ctx)
	d.listeners(ctx, command.Places)
	return d.steps
}

// lockAsIs is lock where the lock is there already: a test makes no file.
func (t *Target) lockAsIs() (unlock func(), err error) {
	t.mu.Lock()
	layout := t.driver.layout()
	if layout.other != nil {
		return t.mu.Unlock, nil
	}
	file, err := os.OpenFile(filepath.Join(layout.directory, lockName), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return t.mu.Unlock, nil
	case err == nil:
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.mu.Unlock()
		return nil, err
	}
	return func() {
		_ = file.Close() // which unlocks
		t.mu.Unlock()
	}, nil
}

func (d *dryRun) add(step, subject string, state certctl.StepState, message, remedy string) {
	d.steps = append(d.steps, certctl.TestStep{
		Binding: d.about, Step: step, Subject: subject, State: state, Message: certctl.Clip(strings.ToValidUTF8(message, "?"), maxMessage), Remedy: remedy,
	})
}

// count is a number with what is counted.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func (d *dryRun) ok(step, subject, format string, args ...any) {
	d.add(step, subject, certctl.StepOK, fmt.Sprintf(format, args...), "")
}

func (d *dryRun) fails(step, subject string, err error) {
	remedy := ""
	var ours *certctl.Error
	if errors.As(err, &ours) {
		remedy = ours.Remedy
	}
	d.add(step, subject, certctl.StepFails, err.Error(), remedy)
}

// directories looks at the folders that are written to, and at whose the files
// would be.
func (d *dryRun) directories() {
	layout := d.target.driver.layout()
	if layout.other != nil {
		d.elsewhere(layout)
		return
	}
	folders := []string{layout.directory}
	if layout.links != "" {
		folders = append(folders, layout.links)
	}
	for _, folder := range folders {
		if err := d.directory(layout, folder); err != nil {
			d.fails("directory", folder, err)
		}
	}
}

func (d *dryRun) directory(layout layout, folder string) error {
	there := existing(folder)
	info, err := os.Stat(there)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return certctl.Errorf(certctl.Conflict, "%s is no folder", there).WithRemedy("name another directory, or move what is there away")
	}
	if err := syscall.Access(there, accessWrite); err != nil {
		return certctl.Wrap(certctl.Conflict, err, "the agent's user cannot write to %s", there).
			WithRemedy("give it to the agent's user, or run the agent as root; under systemd, ReadWritePaths must name it")
	}
	if layout.uid > 0 || layout.gid > 0 {
		if euid := os.Geteuid(); euid != 0 && layout.uid > 0 && layout.uid != euid {
			return certctl.Errorf(certctl.Conflict, "the files are to belong to user %d, and the agent, user %d, cannot give files away", layout.uid, euid).
				WithRemedy("run the agent as root, or leave owner out and give the daemon's user the agent's group")
		}
		if err := (ownership{Owner: ownerText(layout.uid)}).passes(there); err != nil {
			return err
		}
	}
	if there != folder {
		d.ok("directory", folder, "is not there and would be made below %s", there)
		return nil
	}
	d.ok("directory", folder, "is there, and the agent may write to it")
	return nil
}

// elsewhere looks at the folder of another host.
func (d *dryRun) elsewhere(layout layout) {
	mode, err := layout.disk().Mode(layout.directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.ok("directory", layout.directory, "is not there and would be made, as far as the host lets us")
	case err != nil:
		d.fails("directory", layout.directory, err)
	case !mode.IsDir():
		d.fails("directory", layout.directory, certctl.Errorf(certctl.Conflict, "is no folder"))
	default:
		d.ok("directory", layout.directory, "is there")
	}
}

// existing is the nearest folder, from a path upwards, that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// accessWrite is W_OK and X_OK of access(2).
const accessWrite = 0x2 | 0x1

// programs looks for what would be run on this node.
func (d *dryRun) programs() {
	if d.target.driver.layout().other != nil {
		return
	}
	seen := map[string]bool{}
	for _, argv := range [][]string{d.target.driver.check(), d.plan().argv} {
		if len(argv) == 0 || seen[argv[0]] {
			continue
		}
		seen[argv[0]] = true
		if err := executable(argv[0]); err != nil {
			d.fails("program", argv[0], err)
			continue
		}
		d.ok("program", argv[0], "is there")
	}
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return certctl.Wrap(certctl.Conflict, err, "this program is not there").WithRemedy("install it, or name the right path in the target's settings")
	}
	if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return certctl.Errorf(certctl.Conflict, "this is no program").WithRemedy("name the right path in the target's settings")
	}
	return nil
}

// check has the daemon check its configuration with what would be installed.
func (d *dryRun) check(ctx context.Context, staged []stagedPlace) {
	argv := d.target.driver.check()
	if len(argv) == 0 {
		d.add("check", "", certctl.StepSkipped, "this kind has no check of its own: what cannot be loaded is found out by the handshake, and taken back", "")
		return
	}
	subject := strings.Join(argv, " ")
	if len(staged) > 0 && d.target.driver.layout().other == nil {
		err := d.target.checkInMemory(ctx, staged, argv)
		switch {
		case err == nil:
			d.ok("check", subject, "takes the configuration with %s staged", count(len(staged), "place"))
			return
		case !errors.Is(err, errNoNamespace):
			d.fails("check", subject, err)
			return
		}
	}
	err := d.target.check(ctx, nil)
	switch {
	case err == nil && len(staged) == 0:
		d.ok("check", subject, "takes the configuration as it is")
	case err == nil:
		d.add("check", subject, certctl.StepSkipped, "takes the configuration as it is; with what would be installed it cannot be asked here without a change", "")
	case len(staged) == 0:
		d.fails("check", subject, err)
	default:
		d.add("check", subject, certctl.StepSkipped,
			"cannot be asked here without a change; the configuration as it is, perhaps for want of the files, it refuses: "+err.Error(), "")
	}
}

// listeners asks every address what it serves now.
func (d *dryRun) listeners(ctx context.Context, places []certctl.TestPlace) {
	addresses := d.target.driver.addresses()
	if len(addresses) == 0 {
		d.add("listener", "", certctl.StepSkipped, "the target names no address: what is installed would not be seen served", "")
	}
	for _, address := range addresses {
		err := d.listener(ctx, address, places)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			d.add("listener", address, certctl.StepSkipped, "the test's time was over before it had answered", "test again")
		case len(places) > 0 && !d.installed(places):
			d.add("listener", address, certctl.StepSkipped, "does not answer yet, and must when the first certificate is installed: "+err.Error(), "")
		default:
			d.fails("listener", address, certctl.Wrap(certctl.Unavailable, err, "does not answer").
				WithRemedy("does the daemon run, and does it serve TLS there?"))
		}
	}
}

// installed reports whether something is installed at any of the places.
func (d *dryRun) installed(places []certctl.TestPlace) bool {
	return slices.ContainsFunc(places, func(p certctl.TestPlace) bool {
		n, err := d.target.driver.layout().placeOf(p.Place, p.Slot).number()
		return err == nil && n > 0
	})
}

// listener asks one address, until it does not answer.
func (d *dryRun) listener(ctx context.Context, address string, places []certctl.TestPlace) error {
	if len(places) == 0 {
		served, err := probe.TLS(ctx, address, "")
		if err == nil {
			d.ok("listener", address, "serves %s", served.Fingerprint)
		}
		return err
	}
	defer func() { d.about = certctl.NoID }()
	for _, p := range places {
		if certctl.CheckPlace(p.Place) != nil {
			continue
		}
		d.about = p.Binding
		want := d.expected(p)
		for _, name := range want.names[:min(len(want.names), testNames)] {
			served, err := probe.TLSOf(ctx, address, name, want.signature)
			switch {
			case Unseen(err) && served.Fingerprint != p.Fingerprint:
				d.add("listener", address+" "+name, certctl.StepSkipped, UnseenMessage(err), "")
			case err != nil && !Unseen(err):
				return err
			default:
				d.served(served, p)
			}
		}
	}
	return nil
}

// expected is what is to be asked for at a place: by the key of what is installed
// there, else by what the slot is for.
func (d *dryRun) expected(p certctl.TestPlace) Expected {
	leaf := certctl.Leaf{Algorithm: certctl.ECDSAP256}
	if p.Slot == certctl.SlotRSA {
		leaf.Algorithm = certctl.RSA2048
	}
	at := d.target.driver.layout().placeOf(p.Place, p.Slot)
	if n, err := at.number(); err == nil && n > 0 {
		if installed, err := at.leaf(n); err == nil {
			leaf.Algorithm = installed.Algorithm
		}
	}
	leaf.Names, leaf.Fingerprint = p.Names, p.Fingerprint
	return Expect(p.Slot, leaf)
}

// served judges an answer: what is installed must be what is served. What nobody
// has installed yet may be anything.
func (d *dryRun) served(served certctl.Served, p certctl.TestPlace) {
	at := d.target.driver.layout().placeOf(p.Place, p.Slot)
	subject := served.Address + " " + served.ServerName
	var installed certctl.Digest
	if n, err := at.number(); err == nil && n > 0 {
		installed = at.fingerprint(n)
	}
	switch {
	case served.Fingerprint == p.Fingerprint:
		d.ok("listener", subject, "serves the newest certificate of %s", p.Certificate)
	case installed.IsZero():
		d.ok("listener", subject, "serves %s, until %s is installed", served.Fingerprint, p.Certificate)
	case served.Fingerprint == installed:
		d.ok("listener", subject, "serves what is installed at %s", at.path)
	default:
		d.fails("listener", subject, certctl.Errorf(certctl.Conflict, "serves %s, while %s is installed at %s", served.Fingerprint, installed, at.path).
			WithRemedy("does the daemon's configuration name the files of this place for this name?"))
	}
}
