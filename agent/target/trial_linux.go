package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// trialName is the program name under which the agent runs itself to check what it
// stages in memory.
const trialName = "certctl-trial"

// trialCommand returns the command that stages a trial and becomes its check, and
// what it is to read.
func trialCommand(t trial) (*exec.Cmd, io.Reader, error) {
	description, err := json.Marshal(t)
	if err != nil {
		return nil, nil, err
	}
	cmd := oneself(trialName)
	isolate(cmd)
	return cmd, feedOf(description), nil
}

// becomeTrial lays memory over the folders, stages, and becomes the check. An error
// is what an installation would meet, too, unless it is errNoNamespace.
func becomeTrial() error {
	var t trial
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		return err
	}
	if err := t.coverAll(); err != nil {
		return notHere(err)
	}
	if err := t.stage(); err != nil {
		return notHere(fmt.Errorf("stage what would be installed: %w", err))
	}
	return fmt.Errorf("start %s: %w", t.Argv[0], syscall.Exec(t.Argv[0], t.Argv, os.Environ()))
}

// notHere tells what only a namespace cannot do from what nobody could: in one that
// is not root's, files of users that it does not know are neither made nor given
// away (EOVERFLOW, EINVAL, EPERM).
func notHere(err error) error {
	for _, only := range []error{syscall.EINVAL, syscall.EPERM, syscall.EOVERFLOW, errNoMount} {
		if errors.Is(err, only) {
			return errors.Join(errNoNamespace, err)
		}
	}
	return err
}

// errNoMount is for mounts that the kernel refuses: an installation makes none.
var errNoMount = errors.New("the kernel does not mount that")

// coverAll lays memory over the folders that are written to.
func (t trial) coverAll() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w: %w", errNoMount, err)
	}
	covered := ""
	for _, folder := range []string{t.Directory, t.Links} {
		if folder == "" {
			continue
		}
		there := existing(folder)
		if there == covered {
			continue // both are made below it
		}
		if err := overlay(there); err != nil {
			return fmt.Errorf("lay memory over %s: %w", there, err)
		}
		covered = there
	}
	return nil
}

// overlay lays memory over a folder: what is in it stays visible, and what is
// written goes to memory. The folder itself holds that memory, below the layer
// through which it is seen.
func overlay(folder string) error {
	if folder == "/" {
		return fmt.Errorf("nothing of the path is there: %w", errNoMount)
	}
	lower, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer lower.Close()
	info, err := lower.Stat()
	if err != nil {
		return err
	}
	if err := syscall.Mount("certctl", folder, "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("%w: %w", errNoMount, err)
	}
	upper, work := filepath.Join(folder, "upper"), filepath.Join(folder, "work")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := sameOwner(upper, info); err != nil {
		return err
	}
	above, err := os.Open(upper)
	if err != nil {
		return err
	}
	defer above.Close()
	beside, err := os.Open(work)
	if err != nil {
		return err
	}
	defer beside.Close()
	// By their numbers: the folder's name may hold what options are separated by.
	options := fmt.Sprintf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", lower.Fd(), above.Fd(), beside.Fd())
	if err := syscall.Mount("certctl", folder, "overlay", 0, options); err != nil {
		return fmt.Errorf("%w: %w", errNoMount, err)
	}
	return nil
}

// sameOwner makes the upper folder, through whose owner and mode the lower one is
// seen, like that.
func sameOwner(upper string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Chown(upper, int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(upper, info.Mode().Perm())
}
