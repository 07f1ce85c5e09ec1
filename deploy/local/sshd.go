package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// SSHD is a private OpenSSH server, with two host keys and one user's. It lets in
// whoever started it. Its fields are read by Start.
type SSHD struct {
	// Dir is a folder for the keys, the configuration and the log.
	Dir string
	// Listen is the address that it takes connections at.
	Listen string

	process *Process
}

// The files' server has the worst of umasks, and tells all that it is asked.
const sshdConfig = `ListenAddress %[2]s
HostKey %[1]s/host_ed25519
HostKey %[1]s/host_ecdsa
AuthorizedKeysFile %[1]s/user.pub
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 100
Subsystem sftp %[3]s -u 0000 -e -l DEBUG3 2>>%[1]s/sftp.log
`

// UserKeyFile is the private key that it lets in.
func (s *SSHD) UserKeyFile() string { return filepath.Join(s.Dir, "user") }

// HostKey returns its public key of a type, ed25519 or ecdsa.
func (s *SSHD) HostKey(kind string) (string, error) {
	content, err := os.ReadFile(filepath.Join(s.Dir, "host_"+kind+".pub"))
	return strings.TrimSpace(string(content)), err
}

// User is whom it lets in.
func (s *SSHD) User() (string, error) {
	account, err := user.Current()
	if err != nil {
		return "", err
	}
	return account.Username, nil
}

// Requests are what its server of files was asked.
func (s *SSHD) Requests() (string, error) {
	content, err := os.ReadFile(filepath.Join(s.Dir, "sftp.log"))
	return string(content), err
}

// Kill ends it and all its connections with SIGKILL.
func (s *SSHD) Kill() { s.process.Kill() }

// Start makes the keys, starts it, and returns when it takes connections.
func (s *SSHD) Start(ctx context.Context) error {
	program, err := FindSSHD()
	if err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("prepare sshd: %w", err)
	}
	s.process, err = startReady(ctx, Command{
		// Started by its full path, since it starts itself again for each connection.
		Args: []string{program, "-D", "-e", "-f", filepath.Join(s.Dir, "sshd_config")}, LogFile: filepath.Join(s.Dir, "sshd.log"), Name: "sshd",
	}, Accepts("tcp", s.Listen))
	return err
}

func (s *SSHD) prepare(ctx context.Context) error {
	if os.Geteuid() == 0 {
		// Where Debian has it shut itself in; its package makes it at boot.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return err
		}
	}
	for name, kind := range map[string]string{"host_ed25519": "ed25519", "host_ecdsa": "ecdsa", "user": "ed25519"} {
		path := filepath.Join(s.Dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		output, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
	}
	files, err := findSFTPServer()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, "sshd_config"), fmt.Appendf(nil, sshdConfig, s.Dir, s.Listen, files), 0o600)
}

// findSFTPServer returns the path of what sshd starts for files; distributions
// differ.
func findSFTPServer() (string, error) {
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("OpenSSH's sftp-server is not installed (Debian: apt-get install openssh-sftp-server)")
}

// FindSSHD returns the path of OpenSSH's server.
func FindSSHD() (string, error) { return findDaemon("sshd", "openssh-server") }
