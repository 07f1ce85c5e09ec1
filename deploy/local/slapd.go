package local

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Slapd is a private OpenLDAP with no data, whose configuration root may change at
// its socket. Started by root it runs as the user openldap. Its fields are read by
// Start.
type Slapd struct {
	// Certificate and Key are the files that it begins with.
	Certificate, Key string
	// Dir is a folder for the configuration, the socket and the log.
	Dir string
	// Listen is an address for LDAP, and ListenTLS one for LDAP over TLS.
	Listen, ListenTLS string

	process *Process
}

const slapdConfig = `dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: %[1]s/slapd.pid
olcTLSCertificateFile: %[2]s
olcTLSCertificateKeyFile: %[3]s

dn: olcDatabase={0}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {0}config
olcAccess: to * by dn.exact=gidNumber=%[5]d+uidNumber=%[4]d,cn=peercred,cn=external,cn=auth manage
`

const slapdChange = `dn: cn=config
changetype: modify
replace: olcTLSCertificateFile
olcTLSCertificateFile: %s
-
replace: olcTLSCertificateKeyFile
olcTLSCertificateKeyFile: %s
`

// Socket is the path of the socket at which it is configured.
func (s *Slapd) Socket() string { return filepath.Join(s.Dir, "ldapi") }

func (s *Slapd) socketURL() string { return "ldapi://" + url.QueryEscape(s.Socket()) }

// Kill ends slapd with SIGKILL.
func (s *Slapd) Kill() { s.process.Kill() }

// Start makes the configuration, starts slapd and returns when it serves.
func (s *Slapd) Start(ctx context.Context) error {
	program, err := FindSlapd()
	if err != nil {
		return err
	}
	runAs, err := ownUser("openldap", s.Dir)
	if err != nil {
		return fmt.Errorf("prepare slapd: %w", err)
	}
	config := filepath.Join(s.Dir, "slapd.d")
	if err := os.Mkdir(config, 0o700); err != nil {
		return fmt.Errorf("prepare slapd: %w", err)
	}
	if _, err := ownUser("openldap", config); err != nil {
		return fmt.Errorf("prepare slapd: %w", err)
	}
	entries := filepath.Join(s.Dir, "config.ldif")
	content := fmt.Sprintf(slapdConfig, s.Dir, s.Certificate, s.Key, os.Geteuid(), os.Getegid())
	if err := os.WriteFile(entries, []byte(content), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare slapd: %w", err)
	}
	add := exec.CommandContext(ctx, filepath.Join(filepath.Dir(program), "slapadd"), "-n", "0", "-F", config, "-l", entries)
	add.SysProcAttr, add.Dir = &syscall.SysProcAttr{Credential: runAs}, "/"
	if output, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("configure slapd: %w:\n%s", err, indent(string(output)))
	}
	s.process, err = startReady(ctx, Command{
		Args:       []string{program, "-d", "0", "-F", config, "-h", s.socketURL() + " ldap://" + s.Listen + " ldaps://" + s.ListenTLS},
		Credential: runAs, Dir: "/", LogFile: filepath.Join(s.Dir, "output.log"), Name: "slapd",
	}, ShakesHands(s.ListenTLS))
	return err
}

// Configure names other files.
func (s *Slapd) Configure(ctx context.Context, certificate, key string) error {
	modify, err := FindLDAPModify()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, modify, "-Q", "-Y", "EXTERNAL", "-H", s.socketURL())
	cmd.Stdin = strings.NewReader(fmt.Sprintf(slapdChange, certificate, key))
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("configure slapd: %w:\n%s", err, indent(string(output)))
	}
	return nil
}

// FindSlapd returns the path of OpenLDAP's server.
func FindSlapd() (string, error) { return findDaemon("slapd", "slapd") }

// FindLDAPModify returns the path of its client that changes entries.
func FindLDAPModify() (string, error) { return findDaemon("ldapmodify", "ldap-utils") }
