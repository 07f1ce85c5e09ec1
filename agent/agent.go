package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/challenge"
	"github.com/rs/zerolog"
)

// Times of the running agent.
const (
	stopGrace   = 20 * time.Second // for batches that run when the agent is asked to stop
	askMost     = certctl.OfflineAfter / 3
	askLeast    = time.Second
	callTimeout = 20 * time.Second // of one request over the bus, at most; see patience
	tidyEvery   = time.Hour
)

// Options say what an Agent works with.
type Options struct {
	Dir       string // the state directory of an enrolled node
	Policy    *Policy
	Version   string // of this program
	MachineID string // "" = the machine's own
	Parallel  int    // how many targets are worked on at a time; 0 = 4
	Dial      Dial
	Targets   Targets
	Log       zerolog.Logger
	Now       func() time.Time   // nil = time.Now
	Fault     func(point string) // called at fault points; nil in production
}

// Agent is a running node. One runs per state directory.
type Agent struct {
	dir, version, machine string
	id                    Identity
	keys                  nodeKeys
	trust                 *Trust
	credentials           *Credentials
	journal               *Journal
	store                 *KeyStore
	policy                *Policy
	targets               Targets
	dial                  Dial
	link                  *link
	lanes                 *lanes
	log                   zerolog.Logger
	now                   func() time.Time
	fault                 func(string)
	lock                  *os.File
	session               certctl.ID
	retryUnit             time.Duration // see pause
	callFirst             time.Duration // see patience
	driftEvery            time.Duration

	reports   chan struct{} // capacity 1: something is to be reported
	broken    chan error    // capacity 1: the journal cannot be written
	keysInUse sync.RWMutex  // read: from taking a key to journalling its use; write: tidy
	erasing   sync.Mutex    // held by who erases old generations
	records   sync.Mutex    // read-modify-write of the journal
	state     *state

	workCtx  context.Context // of batches; outlives Run's by stopGrace
	workStop context.CancelFunc
	drift    drift
	tested   tested
	keeper   *challenge.Keeper
	openMu   sync.Mutex
	opened   map[certctl.ID]openTarget // guarded by openMu
}

// StoppedError says that the server ended this session: another process has
// taken over the identity, or two fight for it.
type StoppedError struct{ Reason string }

func (e *StoppedError) Error() string { return "the server ended this session: " + e.Reason }

// New opens the state directory of an enrolled node and locks it.
func New(o Options) (*Agent, error) {
	if err := makeStateDirectory(o.Dir); err != nil {
		return nil, err
	}
	a := &Agent{
		dir: o.Dir, version: o.Version, machine: o.MachineID, policy: o.Policy, targets: o.Targets, dial: o.Dial,
		link: newLink(), log: o.Log, now: o.Now, fault: o.Fault, retryUnit: 30 * time.Second, callFirst: 3 * time.Second,
		driftEvery: driftEvery, drift: drift{news: make(chan struct{}, 1)},
		reports: make(chan struct{}, 1), broken: make(chan error, 1), opened: map[certctl.ID]openTarget{},
		keeper: challenge.NewKeeper(o.Policy.challenges()),
	}
	if a.now == nil {
		a.now = time.Now
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	a.lanes = newLanes(o.Parallel, a.runBatch)
	a.session = certctl.NewID(a.now())
	var err error
	if a.id, err = LoadIdentity(o.Dir); err != nil {
		return nil, err
	}
	if a.lock, err = lockDirectory(o.Dir); err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		return nil, errors.Join(err, a.lock.Close())
	}
	a.state = newState(a)
	return a, nil
}

// load reads what the state directory holds.
func (a *Agent) load() (err error) {
	if a.keys, err = loadNodeKeys(a.dir); err != nil {
		return err
	}
	if a.trust, err = openTrust(a.dir, a.id); err != nil {
		return err
	}
	if a.machine == "" {
		if a.machine, err = machineID(a.dir, machineIDFile); err != nil {
			return err
		}
	}
	if a.credentials, err = openCredentials(a.dir, a.id, a.keys, a.trust, a.version, a.now); err != nil {
		return err
	}
	if a.store, err = openKeyStore(filepath.Join(a.dir, "keys")); err != nil {
		return err
	}
	a.journal, err = OpenJournal(filepath.Join(a.dir, "journal"))
	return err
}

// lockDirectory makes sure that no other agent runs on the state directory. The
// kernel lets go of the lock when the process ends, however it ends.
func lockDirectory(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the state directory cannot be locked")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(certctl.Wrap(certctl.Conflict, err, "another agent runs on %s", dir), file.Close())
	}
	return file, nil
}

// Run works until ctx ends, which is no error. Otherwise it returns a
// StoppedError, a Gone error when the agent has been retired, or an Internal
// one when its disk fails. The agent cannot be run again.
func (a *Agent) Run(ctx context.Context) error {
	a.workCtx, a.workStop = context.WithCancel(context.WithoutCancel(ctx))
	defer a.workStop()
	listener, err := a.state.listen()
	if err != nil {
		return errors.Join(err, a.journal.Close(), a.lock.Close())
	}
	serve := func(ctx context.Context) error { return a.state.serve(ctx, listener) }
	a.log.Info().Stringer("agent", a.id.Agent).Str("name", a.id.Name).Stringer("session", a.session).
		Str("policy", a.policy.Source()).Int("journal_damaged", a.journal.Damaged()).Msg("agent starts")
	a.holdAgain()
	defer a.keeper.Close()
	a.recover(ctx, false)
	a.tidy()
	a.inspect(ctx, false)
	err = runTasks(ctx, serve, a.renewCredentials, a.keepLink, a.askMailbox, a.sendReports, a.watchFiles, a.watchDistant, a.journalFails)
	grace := time.AfterFunc(stopGrace, a.workStop)
	defer grace.Stop()
	a.lanes.end()
	a.closeTargets()
	if certctl.ErrorCode(err) == certctl.Gone {
		a.dropAllProofs() // nobody takes them back
	}
	a.log.Info().Err(err).Msg("agent ends")
	return errors.Join(err, a.journal.Close(), a.lock.Close())
}

// renewCredentials keeps the log-in valid and uses each new one at once, long
// before the broker would end the connection for the old one's sake.
func (a *Agent) renewCredentials(ctx context.Context) error {
	report := func(err error) {
		if err != nil {
			a.problem("credentials", err)
			return
		}
		a.log.Info().Time("expires_at", a.credentials.ExpiresAt()).Msg("credentials renewed")
	}
	return a.credentials.Run(ctx, report, func() {
		a.trusted()
		if err := a.link.reconnect(); err != nil {
			a.problem("bus", err)
		}
	})
}

// capabilities are the kinds of targets that this build and the policy allow.
func (a *Agent) capabilities() []string {
	allowed := slices.DeleteFunc(slices.Clone(a.targets.Kinds), func(kind string) bool {
		return a.policy.AllowKind(kind) != nil
	})
	slices.Sort(allowed)
	return allowed
}

// problem logs a failure of one of the agent's lasting duties and shows it in
// the live state.
func (a *Agent) problem(duty string, err error) {
	a.state.failed(duty, err)
	a.log.Warn().Str("duty", duty).Err(err).Msg("will be tried again")
}
