package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// maxSocketPath is what fits into a unix socket's address on Linux.
	maxSocketPath = 107

	// movedSuffix, added to the name of the folder that was asked for, is the
	// file that says where the cluster is instead.
	movedSuffix = ".path"

	// systemState holds the clusters whose own folder their user cannot reach.
	systemState = "/var/lib/certctl"

	hashLength = 12
)

// home is where a cluster lives and as whom.
type home struct {
	credential *syscall.Credential // nil: as the caller
	dir        string              // 0700, of the cluster's user
	socket     string              // dir, or a short path where dir's is too long
}

func (h home) data() string { return filepath.Join(h.dir, "data") }

// settle finds, and makes, the folders for a cluster that should live in dir.
func settle(ctx context.Context, dir string) (home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return home{}, err
	}
	h := home{dir: dir}
	if os.Geteuid() == 0 {
		if h.credential, err = databaseUser(); err != nil {
			return home{}, err
		}
		if h.dir, err = reachable(ctx, dir, h.credential); err != nil {
			return home{}, err
		}
	} else if err := h.makeFolder(dir); err != nil {
		return home{}, err
	}
	h.socket, err = h.socketFolder()
	return h, err
}

// databaseUser is the account that Debian's package makes for the server.
func databaseUser() (*syscall.Credential, error) {
	credential, err := credentialOf("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	return credential, nil
}

// reachable returns dir, or the folder that stands in for it when the database's
// user cannot get there. Once moved, a cluster stays where it is.
func reachable(ctx context.Context, dir string, credential *syscall.Credential) (string, error) {
	h := home{credential: credential}
	moved, err := os.ReadFile(dir + movedSuffix)
	if err == nil {
		place := strings.TrimSpace(string(moved))
		return place, h.makeFolder(place)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := h.makeFolder(dir); err != nil {
		return "", err
	}
	if h.canWrite(ctx, dir) {
		return dir, nil
	}
	if err := os.Remove(dir); err != nil {
		return "", fmt.Errorf("the user of the database cannot reach %s any more, and it is not empty: %w", dir, err)
	}
	place := filepath.Join(systemState, hash(dir))
	if err := h.makeFolder(place); err != nil {
		return "", err
	}
	if !h.canWrite(ctx, place) {
		return "", fmt.Errorf("the user of the database can reach neither %s nor %s", dir, place)
	}
	return place, os.WriteFile(dir+movedSuffix, []byte(place+"\n"), 0o600)
}

// canWrite asks as the cluster's user: permissions of all parents, mounts and
// security modules count, and only the kernel knows them all.
func (h home) canWrite(ctx context.Context, dir string) bool {
	cmd := exec.CommandContext(ctx, "test", "-w", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.credential}
	return cmd.Run() == nil
}

// makeFolder makes a folder that only the cluster's user may enter.
func (h home) makeFolder(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if h.credential != nil {
		if err := os.Lchown(dir, int(h.credential.Uid), int(h.credential.Gid)); err != nil {
			return err
		}
	}
	// Fails for a folder of somebody else, such as one laid out for us in /tmp.
	return os.Chmod(dir, 0o700)
}

// socketFolder is the cluster's own folder if a socket's address can hold its
// path and clients do not take it for a list (they split at commas), else a
// short one.
func (h home) socketFolder() (string, error) {
	if fitsSocket(h.dir) {
		return h.dir, nil
	}
	short := filepath.Join(os.TempDir(), "certctl-"+hash(h.dir))
	if h.credential != nil {
		short = "/run/certctl-" + hash(h.dir)
	}
	if !fitsSocket(short) {
		return "", fmt.Errorf("the path %s cannot be a unix socket's", short)
	}
	return short, h.makeFolder(short)
}

func fitsSocket(dir string) bool {
	return len(filepath.Join(dir, ".s.PGSQL."+postgresPort)) <= maxSocketPath && !strings.Contains(dir, ",")
}

func hash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:])[:hashLength]
}
