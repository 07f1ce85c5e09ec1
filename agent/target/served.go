package target

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Place is where a certificate is bound at a target.
type Place struct {
	Name    string
	Slot    certctl.Slot
	Binding certctl.ID // which: a place can be bound anew before word of the end of the one before
}

// served is a target whose certificates this process hands out. It listens from the
// first Recover or Apply on for as long as a place is bound to it, and until Close.
type served struct {
	*Target
	service *service
}

var (
	_ Opened = (*served)(nil)
	_ Binder = (*served)(nil)
)

// Binder is a target that hands out the places that are bound to it and no others,
// whatever lies in its directory.
type Binder interface {
	// Bind says who knows which they are, and is asked whenever something is handed
	// out. It touches nothing and waits for nobody.
	Bind(places func() []Place)
	// Close ends what it hands out, for good, and waits for nobody.
	Close() error
}

// Bind is Binder's.
func (s *served) Bind(places func() []Place) { s.service.bind(places) }

// Close is Binder's.
func (s *served) Close() error { return s.service.close() }

// Recover also begins to hand out what was proven before this process.
func (s *served) Recover(ctx context.Context) error {
	return errors.Join(s.Target.Recover(ctx), s.service.listen(ctx))
}

// Forget also hands the place out no more, files or not.
func (s *served) Forget(ctx context.Context, command certctl.ForgetCommand) error {
	if err := s.Target.Forget(ctx, command); err != nil {
		return err
	}
	return s.service.unbind(ctx, Place{command.Place, command.Slot, command.Binding})
}

// Inspect also sees that the place is handed out, and mends what it can.
func (s *served) Inspect(name string, slot certctl.Slot, fingerprint, spki certctl.Digest) error {
	if err := s.Target.Inspect(name, slot, fingerprint, spki); err != nil {
		return err
	}
	folder := s.service.folder(Place{Name: name, Slot: slot})
	switch is, err := s.service.handsOut(context.Background(), folder); {
	case err != nil:
		return certctl.Wrap(certctl.Conflict, err, "nothing is handed out at %s", s.service.settings.Socket)
	case !is:
		return certctl.Errorf(certctl.Conflict, "%s is not handed out at %s", folder, s.service.settings.Socket)
	}
	return nil
}

// Test also looks whether the socket could be made.
func (s *served) Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep {
	d := &dryRun{target: s.Target, steps: s.Target.Test(ctx, command)}
	path := s.service.settings.Socket
	switch err := unixsock.Check(ctx, path); {
	case s.service.listens():
		d.ok("socket", path, "is ours, and hands out what is installed")
	case err != nil:
		d.fails("socket", path, err)
	default:
		d.ok("socket", path, "would be made")
	}
	return d.steps
}

// service is the driver of such a target.
type service struct {
	settings ServiceSettings
	start    func(*unixsock.Listener) Outlet

	mu       sync.Mutex     // guards all below, and is held while nobody is waited for
	places   func() []Place // as journalled; nil: none
	done     map[Place]bool // installed, journalled or not
	ended    map[Place]bool // forgotten, journalled or not
	tried    map[string]int // folders of the batches that run
	offered  map[string]Current
	listener *unixsock.Listener // nil: it does not listen
	outlet   Outlet             // the listener's
	closed   bool
}

var (
	_ driver  = (*service)(nil)
	_ loader  = (*service)(nil)
	_ batcher = (*service)(nil)
)

func (s *service) layout() layout {
	return layout{directory: s.settings.Directory, uid: -1, gid: -1, keyMode: 0o600}
}

func (*service) files(material) ([]file, error) { return nil, nil }
func (*service) check() []string                { return nil }
func (s *service) addresses() []string          { return s.settings.Listen }

// reload hands out what is current now.
func (s *service) reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hand(ctx, false)
}

// begin has the places of a batch handed out, too, while it runs.
func (s *service) begin(ctx context.Context, batch []Install) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, install := range batch {
		s.tried[s.folder(placeOfInstall(install))]++
	}
	if err := s.ready(ctx); err != nil {
		s.endBatch(batch)
		return err
	}
	return nil
}

// end has those of them handed out from now on that are in place.
func (s *service) end(ctx context.Context, batch []Install, receipts map[certctl.ID]certctl.Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endBatch(batch)
	for _, install := range batch {
		r := receipts[install.Command.Deployment]
		if r.Outcome == certctl.OutcomeVerified || r.Outcome == certctl.OutcomeInstalled {
			s.took(placeOfInstall(install))
		}
	}
	_ = s.hand(ctx, true) // what cannot be handed out is found by Inspect
}

// took notes that a binding has its place, which no other has any more.
func (s *service) took(p Place) {
	maps.DeleteFunc(s.done, func(other Place, _ bool) bool { return s.folder(other) == s.folder(p) })
	s.done[p] = true
	delete(s.ended, p)
}

func (s *service) endBatch(batch []Install) {
	for _, install := range batch {
		folder := s.folder(placeOfInstall(install))
		if s.tried[folder]--; s.tried[folder] == 0 {
			delete(s.tried, folder)
		}
	}
}

func (s *service) folder(p Place) string { return s.layout().placeOf(p.Name, p.Slot).folder() }

func placeOfInstall(i Install) Place {
	return Place{i.Command.Place, i.Command.Slot, i.Command.Binding}
}

func (s *service) bind(places func() []Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places = places
}

// unbind ends one binding. Another one of the same place stays as it is.
func (s *service) unbind(ctx context.Context, p Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.done, p)
	s.ended[p] = true
	return s.hand(ctx, true)
}

// bound are the folders that are to be handed out. The lock is held.
func (s *service) bound() map[string]bool {
	names := map[string]bool{}
	for p := range s.done {
		names[s.folder(p)] = true
	}
	if s.places != nil {
		for _, p := range s.places() {
			if !s.ended[p] {
				names[s.folder(p)] = true
			}
		}
	}
	for name := range s.tried {
		names[name] = true
	}
	return names
}

// handsOut reports whether a folder is handed out, after an attempt to do so: what was
// installed by a description that was replaced meanwhile is known here by now.
func (s *service) handsOut(ctx context.Context, folder string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, is := s.offered[folder]; !is || !s.listening() {
		if err := s.hand(ctx, true); err != nil {
			return false, err
		}
	}
	_, is := s.offered[folder]
	return is, nil
}

// listen begins to hand out, unless that has begun.
func (s *service) listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening() {
		return nil
	}
	return s.hand(ctx, true)
}

func (s *service) listens() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listening()
}

// listening reports whether programs can come. The lock is held.
func (s *service) listening() bool {
	if s.listener == nil || !s.listener.Intact() {
		return false
	}
	select {
	case <-s.outlet.Ended():
		return false
	default:
		return true
	}
}

// ready makes the socket where it is not there. The lock is held.
func (s *service) ready(ctx context.Context) error {
	if s.closed {
		return certctl.Errorf(certctl.Unavailable, "this target has another description now").WithRemedy("nothing is to be done: it is tried again")
	}
	if s.listening() {
		return nil
	}
	if err := s.stop(); err != nil {
		return err
	}
	group, err := (ownership{Group: s.settings.Group}).gid()
	if err != nil {
		return err
	}
	listener, err := unixsock.Listen(ctx, unixsock.Config{Path: s.settings.Socket, Group: group, Allowed: s.mayCome})
	if err != nil {
		return err
	}
	s.listener, s.outlet, s.offered = listener, s.start(listener), map[string]Current{}
	return nil
}

// hand hands out the places that are bound or tried, and nothing else; without any
// nobody listens. The lock is held.
func (s *service) hand(ctx context.Context, proven bool) error {
	names := s.bound()
	if len(names) == 0 {
		return s.stop()
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	now, err := currents(s.layout(), names, proven, s.offered)
	if err != nil {
		return err
	}
	if changed, gone := differences(s.offered, now); len(changed)+len(gone) > 0 {
		if err := s.outlet.Offer(changed, gone); err != nil {
			return err
		}
	}
	s.offered = now
	return nil
}

// stop ends all connections and removes the socket. The lock is held.
func (s *service) stop() error {
	if s.listener == nil {
		return nil
	}
	err := s.listener.Close()
	s.listener, s.outlet, s.offered = nil, nil, nil
	return err
}

func (s *service) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.stop()
}

// await is loader's.
func (s *service) await(ctx context.Context, p place) error {
	s.mu.Lock()
	outlet := s.outlet
	s.mu.Unlock()
	if outlet == nil {
		return nil
	}
	return outlet.Await(ctx, p.folder())
}

// loaded is loader's. What was changed on the disk meanwhile is not what was loaded.
func (s *service) loaded(p place) bool {
	n, err := p.number()
	if err != nil || n == 0 {
		return false
	}
	current, err := currentOf(p, n)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outlet != nil && s.offered[current.Name].same(current) && s.outlet.Loaded(current.Name)
}
