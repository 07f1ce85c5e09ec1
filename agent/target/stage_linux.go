package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// stagedName is the program name under which the agent runs itself to check a
// staged configuration.
const stagedName = "certctl-staged-check"

// staged is what that program does.
type staged struct {
	Mounts []mount  `json:"mounts"`
	Argv   []string `json:"argv"`
}

// StagedExec must be the first call of every program that applies targets. In a
// program that was started to check a staged configuration it lays the staged
// folders over the current ones, becomes the daemon's check, and does not
// return; elsewhere it does nothing.
func StagedExec() {
	if len(os.Args) != 1 || os.Args[0] != stagedName && os.Args[0] != trialName {
		return
	}
	var err error
	exit := exitNoNamespace
	if os.Args[0] == trialName {
		if err = becomeTrial(); !errors.Is(err, errNoNamespace) {
			exit = exitNotStaged
		}
	} else {
		err = becomeCheck()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exit)
}

func becomeCheck() error {
	var s staged
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		return err
	}
	// Nothing that is mounted here may be seen outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, m := range s.Mounts {
		if err := syscall.Mount(m.From, m.Over, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("lay %s over %s: %w", m.From, m.Over, err)
		}
	}
	return syscall.Exec(s.Argv[0], s.Argv, os.Environ())
}

// stagedCommand returns a command that runs argv with the mounts in place.
func stagedCommand(mounts []mount, argv []string) (*exec.Cmd, error) {
	description, err := json.Marshal(staged{Mounts: mounts, Argv: argv})
	if err != nil {
		return nil, err
	}
	cmd := oneself(stagedName)
	cmd.Stdin = feedOf(description) // an argument has at most 128 KiB, which some hundred mounts exceed
	isolate(cmd)
	return cmd, nil
}

// isolate gives a command a mount namespace of its own.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capSysAdmin}
	}
}

const capSysAdmin = 21

// refused reports whether the kernel does not let us make a namespace.
func refused(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS)
}
