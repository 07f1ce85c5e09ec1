package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// State is what a running agent says of itself.
type State struct {
	PID           int               `json:"pid"`
	Version       string            `json:"version"`
	Installation  certctl.ID        `json:"installation"`
	Agent         certctl.ID        `json:"agent"`
	Name          string            `json:"name"`
	Session       certctl.ID        `json:"session"`
	StartedAt     time.Time         `json:"started_at"`
	Connected     bool              `json:"connected"`             // the last request to the server was answered
	LastContact   time.Time         `json:"last_contact,omitzero"` // the server's last answer
	CredentialsTo time.Time         `json:"credentials_expire_at,omitzero"`
	TrustVersion  int64             `json:"trust_version"`
	Policy        string            `json:"policy"`
	Bindings      int               `json:"bindings"`
	OpenReports   int               `json:"open_reports"` // not yet recorded by the server
	Refused       int64             `json:"refused"`      // commands and trust documents that nobody who may made
	Damaged       int               `json:"journal_damaged,omitempty"`
	Problems      map[string]string `json:"problems,omitempty"` // of the last failure of each duty, until contact
}

// Healthy says what is wrong with a running agent: nothing, or that the server
// has not answered for longer than maxSilence (0: that does not matter, since an
// agent works off line).
func (s State) Healthy(now time.Time, maxSilence time.Duration) error {
	since := s.LastContact
	if since.IsZero() {
		since = s.StartedAt
	}
	if maxSilence <= 0 || now.Sub(since) <= maxSilence {
		return nil
	}
	e := certctl.Errorf(certctl.Unavailable, "the server has not answered for %s", now.Sub(since).Round(time.Second))
	for _, duty := range slices.Sorted(maps.Keys(s.Problems)) {
		e.Message += fmt.Sprintf("; %s: %s", duty, s.Problems[duty])
	}
	return e
}

// String is one line for people.
func (s State) String() string {
	line := fmt.Sprintf("%s runs as process %d: %d bindings, %d open reports", s.Name, s.PID, s.Bindings, s.OpenReports)
	switch {
	case s.LastContact.IsZero():
		line += ", no contact with the server yet"
	case !s.Connected:
		line += ", off line since about " + s.LastContact.Format(time.RFC3339)
	default:
		line += ", last contact " + s.LastContact.Format(time.RFC3339)
	}
	return line
}

// state gathers what State shows. It is safe for concurrent use.
type state struct {
	agent   *Agent
	started time.Time

	mu       sync.Mutex // guards all below
	last     time.Time  // contact
	online   bool       // the last request was answered
	tidied   time.Time
	refused  int64
	problems map[string]string
}

func newState(a *Agent) *state {
	return &state{agent: a, started: a.now(), tidied: a.now(), problems: map[string]string{}}
}

// contact notes an answer of the server.
func (s *state) contact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.online = s.agent.now(), true
	clear(s.problems)
}

func (s *state) failed(duty string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems[duty] = safeMessage(err)
	if duty == "mailbox" || duty == "report" {
		s.online = false
	}
}

func (s *state) forged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
}

// tidyDue reports whether it is time to tidy, and then takes it as done.
func (s *state) tidyDue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.tidied) < tidyEvery {
		return false
	}
	s.tidied = now
	return true
}

// snapshot returns the state of this moment.
func (s *state) snapshot() State {
	a := s.agent
	out := State{
		PID: os.Getpid(), Version: a.version, Installation: a.id.Installation, Agent: a.id.Agent, Name: a.id.Name,
		Session: a.session, StartedAt: s.started.UTC(),
		CredentialsTo: a.credentials.ExpiresAt(), TrustVersion: a.trust.Document().Version, Policy: a.policy.Source(),
		Bindings: len(a.journal.Keys("binding/")), OpenReports: len(a.journal.Keys("report/")), Damaged: a.journal.Damaged(),
		Problems: map[string]string{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.LastContact, out.Connected, out.Refused = s.last.UTC(), s.online, s.refused
	for duty, problem := range s.problems {
		out.Problems[duty] = problem
	}
	return out
}

// listen makes the socket. It is there before anything else begins.
func (s *state) listen() (net.Listener, error) {
	path, release, err := socketPath(s.agent.dir)
	if err != nil {
		return nil, err
	}
	defer release()
	// The lock of the directory is ours, so this is a dead agent's.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, certctl.Wrap(certctl.Internal, err, "the old socket cannot be removed")
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the socket for the live state cannot be made")
	}
	unix, _ := listener.(*net.UnixListener) // what listening on "unix" gives
	unix.SetUnlinkOnClose(false)            // its path may have been reached through a descriptor
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(certctl.Wrap(certctl.Internal, err, "the socket cannot be kept from others"), listener.Close())
	}
	return listener, nil
}

// serve answers each connection to the socket with the state and closes it. A
// socket that is left behind is refused by the kernel: nobody listens.
func (s *state) serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // Accept returns the error
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return certctl.Wrap(certctl.Internal, err, "the socket for the live state broke")
		}
		s.answer(conn)
	}
}

// answer writes the state; a reader that goes away early is its own trouble.
func (s *state) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // fails only on a closed connection
	_ = json.NewEncoder(conn).Encode(s.snapshot())
}

// Health asks the agent that runs on a state directory. Unavailable means that
// none answers: it is dead, or hangs.
func Health(ctx context.Context, dir string) (State, error) {
	var live State
	path, release, err := socketPath(dir)
	if err != nil {
		return live, err
	}
	defer release()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return live, certctl.Wrap(certctl.Unavailable, err, "no agent runs on %s", dir)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // fails only on a closed connection
	}
	if err := json.NewDecoder(conn).Decode(&live); err != nil {
		return live, certctl.Wrap(certctl.Unavailable, err, "the agent on %s does not answer", dir)
	}
	return live, nil
}

// maxSocketPath is what fits into a socket address on every Unix we run on.
const maxSocketPath = 100

// socketPath returns the socket's path. A longer one than an address holds is
// reached through a descriptor of its directory, until release.
func socketPath(dir string) (path string, release func(), err error) {
	path = filepath.Join(dir, "agent.sock")
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", nil, certctl.Wrap(certctl.Unavailable, err, "the state directory cannot be opened")
	}
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(folder.Fd())), "agent.sock")
	return short, func() { _ = folder.Close() }, nil // opened for reading only
}
