package target

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Bounds of the settings of a service.
const (
	defaultWait   = 5
	maxWait       = 300
	maxUsers      = 100
	maxSocketPath = 103 // what systems have room for in a socket's address
)

// ServiceSettings are the settings of a kind whose certificates this process hands
// out itself, at a socket of its node.
type ServiceSettings struct {
	// Directory holds the places, for the agent's next start.
	Directory string `json:"directory"`
	// Socket is the path of the socket, where the policy's sockets allow it.
	Socket string `json:"socket"`
	// Users, names or ids, may have the certificates there, with their keys, besides
	// root and the agent's user. The policy's socket_users must name them.
	Users []string `json:"users,omitempty"`
	// Group may connect: those users belong to it.
	Group string `json:"group,omitempty"`
	// Listen are the programs' listeners to probe, see probe.Address; none: what a
	// program says is all that is known.
	Listen []string `json:"listen,omitempty"`
	// WaitSeconds is how long an installation waits, in all, for programs that ask for
	// a certificate to say that they have loaded it.
	WaitSeconds int `json:"wait_seconds,omitempty"`
}

// Outlet speaks with the programs at a socket, until its listener is closed.
type Outlet interface {
	// Offer hands these out from now on, and those no more.
	Offer(changed []Current, gone []string) error
	// Await returns when the programs that ask for a certificate have said what they
	// think of it, or when ctx ends. Its error is what one says that cannot use it.
	Await(ctx context.Context, name string) error
	// Loaded reports whether a program has said that it uses what is offered, and none
	// that it cannot.
	Loaded(name string) bool
	// Ended is closed when it serves no more.
	Ended() <-chan struct{}
}

// SocketPolicy is a node's policy that knows of sockets. One that does not allows none.
type SocketPolicy interface {
	AllowSocket(path string) error
	AllowSocketUser(name string) error
}

// ServiceKind completes the descriptor of such a kind. start makes what speaks with
// programs; nil: this program knows the settings only.
func ServiceKind(d Descriptor, start func(*unixsock.Listener) Outlet) Descriptor {
	d.Hitless, d.Rollback, d.Probe = true, true, true
	d.Parse = func(raw json.RawMessage) (Opener, error) {
		s, err := parseService(raw)
		if err != nil {
			return nil, err
		}
		return &serviceOpener{kind: d.Kind, settings: s, start: start}, nil
	}
	return d
}

func parseService(raw json.RawMessage) (ServiceSettings, error) {
	s := ServiceSettings{WaitSeconds: defaultWait}
	if err := decode(raw, &s); err != nil {
		return s, err
	}
	var bad certctl.FieldErrors
	absolute(&bad, "directory", s.Directory)
	absolute(&bad, "socket", s.Socket)
	if len(s.Socket) > maxSocketPath {
		bad.Add("/settings/socket", "must have at most %d bytes", maxSocketPath)
	}
	if below(s.Socket, s.Directory) {
		bad.Add("/settings/socket", "must not be below the directory, which has the keys")
	}
	if len(s.Users) > maxUsers {
		bad.Add("/settings/users", "must be at most %d", maxUsers)
	}
	for i, name := range s.Users {
		checkAccount(&bad, "users/"+strconv.Itoa(i), name)
	}
	switch {
	case s.Group != "":
		checkAccount(&bad, "group", s.Group)
	case len(s.Users) > 0:
		bad.Add("/settings/group", "must name a group of these users: without one only the agent's user can connect")
	}
	checkAddresses(&bad, "listen", s.Listen)
	if s.WaitSeconds < 0 || s.WaitSeconds > maxWait {
		bad.Add("/settings/wait_seconds", "must be from 0 to %d", maxWait)
	}
	return s, bad.Err()
}

func checkAccount(bad *certctl.FieldErrors, field, name string) {
	if name == "" || len(name) > 64 {
		bad.Add("/settings/"+field, "must be a name or an id")
	}
}

// serviceOpener is what the settings say.
type serviceOpener struct {
	kind     string
	settings ServiceSettings
	start    func(*unixsock.Listener) Outlet
}

// Open holds the settings against the node's policy. It makes nothing and listens
// nowhere: that begins with Recover and Apply.
func (o *serviceOpener) Open(name string, env Env) (Opened, error) {
	if o.start == nil {
		return nil, certctl.Errorf(certctl.Denied, "this program serves no targets of kind %s", o.kind)
	}
	d := &service{settings: o.settings, start: o.start, done: map[Place]bool{}, ended: map[Place]bool{}, tried: map[string]int{}}
	if err := d.allowed(env.Policy); err != nil {
		return nil, err
	}
	return &served{Target: &Target{name: name, driver: d, env: env}, service: d}, nil
}

// allowed holds what is touched against a policy.
func (o *serviceOpener) allowed(p Policy) error { return (&service{settings: o.settings}).allowed(p) }

func (s *service) allowed(p Policy) error {
	if err := p.AllowDirectory(s.settings.Directory); err != nil {
		return err
	}
	sockets, ok := p.(SocketPolicy)
	if !ok {
		return errNoSockets()
	}
	if err := sockets.AllowSocket(s.settings.Socket); err != nil {
		return err
	}
	for _, name := range s.settings.Users {
		if err := sockets.AllowSocketUser(name); err != nil {
			return err
		}
		if _, err := (ownership{Owner: name}).uid(); err != nil {
			return err
		}
	}
	_, err := (ownership{Group: s.settings.Group}).gid()
	return err
}

func errNoSockets() error {
	return certctl.Errorf(certctl.Denied, "the policy of this node allows no sockets")
}

// mayCome reports whether a user is one of the settings'. Names are looked up with each
// connection, since a user may be made anew under another id.
func (s *service) mayCome(uid int) bool {
	for _, name := range s.settings.Users {
		if id, err := (ownership{Owner: name}).uid(); err == nil && id == uid {
			return true
		}
	}
	return false
}

func (s *service) patience() time.Duration {
	return time.Duration(s.settings.WaitSeconds) * time.Second
}
