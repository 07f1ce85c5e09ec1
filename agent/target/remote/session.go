package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Times of a connection. One that does nothing is closed, so that a fleet of hosts
// does not mean a fleet of connections.
const (
	idleTimeout = time.Minute
	callTimeout = 20 * time.Second     // of one request for a file
	restTimeout = 5 * time.Millisecond // after which a connection is asked whether it still works
	killTimeout = 2 * time.Second      // for a command to end that was told to
)

// maxOutput bounds what is kept of a command's words.
const maxOutput = 2 << 10

// session is a connection to a host, made when it is needed and again when it has
// broken.
type session struct {
	dial func(ctx context.Context) (*ssh.Client, net.Conn, error)
	host string

	mu   sync.Mutex
	conn *connection
}

// connection is one that works, until it has ended.
type connection struct {
	ssh   *ssh.Client
	files *sftp.Client
	idle  *time.Timer
	ended chan struct{}
	used  time.Time // under the session's lock
}

// renaming is what makes a switch of one step possible, syncing what makes a file
// last.
const (
	renaming = "posix-rename@openssh.com"
	syncing  = "fsync@openssh.com"
)

// connect returns a connection that has not ended as far as is known.
func (s *session) connect(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.works() && s.conn.answers() {
		s.conn.idle.Reset(idleTimeout)
		return s.conn, nil
	}
	client, plain, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	guard := time.AfterFunc(callTimeout, func() { _ = plain.Close() }) // so that nothing waits for ever
	defer guard.Stop()
	files, err := sftp.NewClient(client)
	if err != nil {
		return nil, errors.Join(certctl.Wrap(certctl.Unavailable, err, "%s offers no SFTP", s.host), client.Close())
	}
	for _, extension := range []string{renaming, syncing} {
		if _, ok := files.HasExtension(extension); !ok {
			return nil, errors.Join(certctl.Errorf(certctl.Conflict, "the SFTP of %s has no %s, without which nothing can be switched safely", s.host, extension), client.Close())
		}
	}
	c := &connection{ssh: client, files: files, ended: make(chan struct{}), used: time.Now()}
	c.idle = time.AfterFunc(idleTimeout, c.close)
	go func() {
		_ = client.Wait() // why it ended is told to whoever uses it
		c.idle.Stop()
		close(c.ended)
	}()
	s.conn = c
	return c, nil
}

func (c *connection) works() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// answers reports whether the host still does, where the connection has rested: one
// that broke meanwhile is known to have ended only once somebody reads from it.
func (c *connection) answers() bool {
	if time.Since(c.used) > restTimeout {
		guard := time.AfterFunc(callTimeout, c.close)
		defer guard.Stop()
		if _, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			return false
		}
	}
	c.used = time.Now()
	return true
}

func (c *connection) close() { _ = c.ssh.Close() } // it is not used any more

// call asks the host for something about a file, in bounded time.
func call[T any](s *session, path string, ask func(*sftp.Client) (T, error)) (T, error) {
	var none T
	c, err := s.connect(context.Background())
	if err != nil {
		return none, err
	}
	guard := time.AfterFunc(callTimeout, c.close)
	defer guard.Stop()
	got, err := ask(c.files)
	if err != nil {
		return got, s.explain(c, path, err)
	}
	return got, nil
}

// do is call for what has no answer.
func do(s *session, path string, ask func(*sftp.Client) error) error {
	_, err := call(s, path, func(c *sftp.Client) (struct{}, error) { return struct{}{}, ask(c) })
	return err
}

// explain tells a connection that broke from what the host refuses.
func (s *session) explain(c *connection, path string, err error) error {
	if errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || !c.works() {
		s.forget(c)
		return certctl.Wrap(certctl.Unavailable, err, "the connection to %s broke", s.host)
	}
	return &hostError{host: s.host, path: path, err: err}
}

// forget has the next request make a new connection.
func (s *session) forget(broken *connection) {
	broken.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == broken {
		s.conn = nil
	}
}

// hostError is what a host says of a path.
type hostError struct {
	host, path string
	err        error
}

func (e *hostError) Error() string {
	return e.path + " on " + e.host + ": " + strings.TrimPrefix(e.err.Error(), "sftp: ")
}
func (e *hostError) Unwrap() error { return e.err }

// run runs an argument vector on the host and returns its own words when it fails.
func (s *session) run(ctx context.Context, argv []string) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	started, err := c.ssh.NewSession()
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "%s runs nothing", s.host)
	}
	defer started.Close()
	var output words
	started.Stdout, started.Stderr = &output, &output
	done := make(chan error, 1)
	go func() { done <- started.Run(commandLine(argv)) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = started.Signal(ssh.SIGKILL) // what it cannot be told, it is not: it ends with the connection
		guard := time.AfterFunc(killTimeout, c.close)
		defer guard.Stop()
		err = errors.Join(ctx.Err(), <-done)
	}
	if err == nil {
		return nil
	}
	return certctl.Wrap(certctl.Conflict, err, "%s on %s: %s", argv[0], s.host, output.String())
}

// words keeps the beginning of what a command says. Both of its outputs are
// written here.
type words struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept.Write(p[:min(len(p), maxOutput-w.kept.Len())])
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(w.kept.String()), "?")
}

// commandLine writes an argument vector so that a POSIX shell reads the same
// arguments from it: SSH has nothing but a line for the user's shell.
func commandLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

// plain are the characters that mean themselves.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_%+=:,./-@"

func quote(arg string) string {
	if arg != "" && strings.Trim(arg, plain) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
