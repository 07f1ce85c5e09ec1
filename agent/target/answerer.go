package target

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/certctl/certctl"
)

// answersForRoot refuses a connection to a socket at which somebody else than root
// or the agent's user listens. Who may name the socket could else have whatever is
// sent there: folders for sockets have daemons of many users.
func answersForRoot(conn net.Conn, socket string, listener func(*net.UnixConn) (uid int, err error)) error {
	local, ok := conn.(*net.UnixConn)
	if !ok {
		return certctl.Errorf(certctl.Invalid, "%s is no socket of this node", socket)
	}
	uid, err := listener(local)
	if errors.Is(err, errors.ErrUnsupported) {
		return belongsToRoot(socket)
	}
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the system does not say who listens at %s: nothing was sent there", socket)
	}
	if rootOrOwn(uid) {
		return nil
	}
	return certctl.Errorf(certctl.Conflict, "%s listens at %s, and neither root nor the agent's user: nothing was sent there", userName(uid), socket).
		WithRemedy("is this the daemon's own socket? It must be opened by root, before the daemon becomes another user, or by the agent's user")
}

// belongsToRoot is for systems that do not say who listens: it holds the socket's
// file and its folder, in which it could be replaced, against whose they are.
func belongsToRoot(socket string) error {
	for path, foreign := range map[string]fs.FileMode{socket: 0o002, filepath.Dir(socket): 0o022} {
		info, err := os.Lstat(path)
		if err != nil {
			return certctl.Wrap(certctl.Unavailable, err, "whose %s is cannot be seen: nothing was sent there", path)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok || !rootOrOwn(int(stat.Uid)):
			return certctl.Errorf(certctl.Conflict, "%s belongs neither to root nor to the agent's user: nothing was sent there", path).
				WithRemedy("give it to root, and have the daemon listen there before it becomes another user")
		case info.Mode().Perm()&foreign != 0:
			return certctl.Errorf(certctl.Conflict, "%s may be written to by others: nothing was sent there", path).
				WithRemedy("take that away from them (chmod), and in the daemon's configuration")
		}
	}
	return nil
}

func rootOrOwn(uid int) bool { return uid == 0 || uid == os.Geteuid() }

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if known, err := user.LookupId(id); err == nil {
		return "user " + known.Username
	}
	return "user " + id
}
