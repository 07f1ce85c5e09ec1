package local

import (
	"context"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownUser gives a folder to a daemon's own user, and returns how to run as him.
// Only root can: others run everything as themselves, and the credential is nil.
func ownUser(name, dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	credential, err := credentialOf(name)
	if err != nil {
		return nil, err
	}
	return credential, os.Chown(dir, int(credential.Uid), int(credential.Gid))
}

// credentialOf looks a user up.
func credentialOf(name string) (*syscall.Credential, error) {
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// startReady starts a program and returns it when a probe of it succeeds.
func startReady(ctx context.Context, command Command, probe func(context.Context) error) (*Process, error) {
	process, err := Start(command)
	if err != nil {
		return nil, err
	}
	if err := process.Ready(ctx, probe); err != nil {
		process.Kill()
		return nil, err
	}
	return process, nil
}
