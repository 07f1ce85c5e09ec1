package remote

import (
	"encoding/json"
	"io/fs"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"golang.org/x/crypto/ssh"
)

var sshKind = target.Descriptor{
	Kind: "ssh", Title: "Files on a host without an agent, over SFTP", Check: true, Rollback: true, Probe: true, Parse: parseSSH,
}

// sshSettings are the settings of a target of kind ssh.
type sshSettings struct {
	// Host is host or host:port.
	Host string `json:"host"`
	// User logs in there, with the key in PrivateKeyFile, a file of this node.
	User           string `json:"user"`
	PrivateKeyFile string `json:"private_key_file"`
	// KnownHostsFile, a file of this node, or HostKeys say which key the host has.
	KnownHostsFile string   `json:"known_hosts_file,omitempty"`
	HostKeys       []string `json:"host_keys,omitempty"`
	// Directory of the host holds the places.
	Directory string `json:"directory"`
	// UID and GID of the files, ids of the host; default: the user's.
	UID *int `json:"uid,omitempty"`
	GID *int `json:"gid,omitempty"`
	// KeyMode is the mode of the private key, octal text; default 0600, at most 0640.
	KeyMode string `json:"key_mode,omitempty"`
	// Bundle also writes bundle.pem: key, leaf and chain in one file.
	Bundle bool `json:"bundle,omitempty"`
	// CheckCommand and ReloadCommand are argument vectors that are run on the host.
	CheckCommand  []string `json:"check_command,omitempty"`
	ReloadCommand []string `json:"reload_command,omitempty"`
	// Listen are addresses to probe from this node; without one the outcome is "installed".
	Listen []string `json:"listen,omitempty"`
}

// sshTarget is what the settings say, with the host's address complete.
type sshTarget struct {
	sshSettings
	address  string
	hostKeys []ssh.PublicKey
	uid, gid int
	keyMode  fs.FileMode
}

func parseSSH(raw json.RawMessage) (target.Opener, error) {
	t := &sshTarget{uid: -1, gid: -1}
	if err := decode(raw, &t.sshSettings); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	if t.address = hostPort(t.Host, "22"); t.address == "" {
		bad.Add("/settings/host", "must be host or host:port")
	}
	if t.User == "" {
		bad.Add("/settings/user", "is required")
	}
	checkPath(&bad, "private_key_file", t.PrivateKeyFile)
	checkPath(&bad, "directory", t.Directory)
	checkArgv(&bad, "check_command", t.CheckCommand)
	checkArgv(&bad, "reload_command", t.ReloadCommand)
	checkListen(&bad, t.Listen)
	t.parseHostKeys(&bad)
	t.parseOwner(&bad)
	return t, bad.Err()
}

// parseHostKeys reads the keys that were given. A host is never believed at first
// sight.
func (t *sshTarget) parseHostKeys(bad *certctl.FieldErrors) {
	switch {
	case t.KnownHostsFile == "" && len(t.HostKeys) == 0:
		bad.Add("/settings/known_hosts_file", "or host_keys is required: the host must be known")
	case t.KnownHostsFile != "" && len(t.HostKeys) > 0:
		bad.Add("/settings/host_keys", "known_hosts_file is set as well: unset one of them")
	case t.KnownHostsFile != "":
		checkPath(bad, "known_hosts_file", t.KnownHostsFile)
	}
	for i, text := range t.HostKeys {
		key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil || len(options) > 0 || len(rest) > 0 {
			bad.Add("/settings/host_keys/"+strconv.Itoa(i), "must be a public key, such as ssh-ed25519 AAAA…")
			continue
		}
		t.hostKeys = append(t.hostKeys, key)
	}
}

func (t *sshTarget) parseOwner(bad *certctl.FieldErrors) {
	for field, given := range map[string]struct{ from, to *int }{"uid": {t.UID, &t.uid}, "gid": {t.GID, &t.gid}} {
		if given.from == nil {
			continue
		}
		if *given.to = *given.from; *given.to < 0 {
			bad.Add("/settings/"+field, "must not be negative")
		}
	}
	t.keyMode = 0o600
	if t.KeyMode != "" {
		mode, err := strconv.ParseUint(t.KeyMode, 8, 32)
		if t.keyMode = fs.FileMode(mode); err != nil || mode&^0o640 != 0 || mode&0o400 == 0 {
			bad.Add("/settings/key_mode", "must be 0400, 0440, 0600 or 0640")
		}
	}
}

// Open holds the settings against the node's policy. The host is asked nothing yet.
func (t *sshTarget) Open(name string, env target.Env) (target.Opened, error) {
	if err := allow(env.Policy, t.address, t.PrivateKeyFile, t.KnownHostsFile); err != nil {
		return nil, err
	}
	s := &session{dial: t.dial, host: t.address}
	return target.Host{
		Name: t.address, Directory: t.Directory, KeyMode: t.keyMode, UID: t.uid, GID: t.gid, Bundle: t.Bundle,
		Disk: sftpDisk{s}, Run: s.run, Check: t.CheckCommand, Reload: t.ReloadCommand, Listen: t.Listen,
	}.Open(name, env)
}
