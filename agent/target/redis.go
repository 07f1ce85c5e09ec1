package target

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"

	"github.com/certctl/certctl"
)

var redisKind = Descriptor{
	Kind: "redis", Title: "Redis", Hitless: true, Rollback: true, Probe: true, open: openRedis,
}

// redisSettings are the settings of a target of kind redis, version 7 or newer.
type redisSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Control is where commands are taken: the path of a socket, or host:port on loopback.
	Control string `json:"control,omitempty"`
	// User logs in; empty: the default user.
	User string `json:"user,omitempty"`
	// PasswordFile is a file of this node with the password; empty: none is needed.
	PasswordFile string `json:"password_file,omitempty"`
	// Reload is an argument vector to run instead of those commands.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe.
	Listen []string `json:"listen"`
}

// redis is told its files by CONFIG SET, which it refuses when it cannot load
// them. Its configuration names them for its next start.
type redis struct {
	*owned
	settings redisSettings
}

func openRedis(raw json.RawMessage) (driver, error) {
	s := redisSettings{ownership: ownership{Owner: "redis"}, Control: "/run/redis/redis-server.sock"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	r := &redis{settings: s, owned: newOwned(ownedSettings{
		Directory: s.Directory, ownership: s.ownership, Reload: s.Reload, Listen: s.Listen,
	}, daemon{}, &bad)}
	checkAddresses(&bad, "listen", s.Listen)
	if len(s.Reload) > 0 {
		absolute(&bad, "reload/0", s.Reload[0])
	}
	if !filepath.IsAbs(s.Control) && !loopback(s.Control) || filepath.IsAbs(s.Control) && filepath.Clean(s.Control) != s.Control {
		bad.Add("/settings/control", "must be the absolute path of a socket, or host:port on loopback")
	}
	if s.PasswordFile != "" {
		absolute(&bad, "password_file", s.PasswordFile)
	} else if s.User != "" {
		bad.Add("/settings/password_file", "is required for a user")
	}
	return r, bad.Err()
}

// loopback reports whether host:port is on this machine alone.
func loopback(address string) bool {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && port != "" && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (r *redis) allowed(p Policy) error {
	for _, path := range []string{r.settings.Control, r.settings.PasswordFile} {
		if !filepath.IsAbs(path) || len(r.settings.Reload) > 0 {
			continue
		}
		if err := p.AllowConfig(path); err != nil {
			return err
		}
	}
	return r.owned.allowed(p)
}

func (r *redis) reload(ctx context.Context) error {
	if len(r.settings.Reload) > 0 {
		return r.owned.reload(ctx)
	}
	network := "tcp"
	if filepath.IsAbs(r.settings.Control) {
		network = "unix"
	}
	conn, err := dialControl(ctx, network, r.settings.Control)
	if err != nil {
		return err
	}
	defer conn.Close()
	session := newRESP(conn)
	if err := r.logIn(session); err != nil {
		return err
	}
	return tellAgain(ctx, redisTeller{session}, r.settings.Directory)
}

// logIn sends the password, if there is one.
func (r *redis) logIn(session *resp) error {
	if r.settings.PasswordFile == "" {
		return nil
	}
	password, err := readSecret(r.settings.PasswordFile)
	if err != nil {
		return err
	}
	command := []string{"AUTH"}
	if r.settings.User != "" {
		command = append(command, r.settings.User)
	}
	_, err = session.do(append(command, password)...)
	return err
}

// redisTeller sends the commands.
type redisTeller struct{ session *resp }

func (t redisTeller) names(context.Context) (certificate, key string, err error) {
	for parameter, into := range map[string]*string{"tls-cert-file": &certificate, "tls-key-file": &key} {
		answer, err := t.session.do("CONFIG", "GET", parameter)
		if err != nil {
			return "", "", err
		}
		if len(answer) != 2 {
			return "", "", certctl.Errorf(certctl.Conflict, "this Redis knows no %s", parameter)
		}
		*into = answer[1]
	}
	return certificate, key, nil
}

func (t redisTeller) tell(_ context.Context, certificate, key string) error {
	_, err := t.session.do("CONFIG", "SET", "tls-cert-file", certificate, "tls-key-file", key)
	return err
}
