package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Requirement is something that a package of the system brings.
type Requirement struct {
	// Package is the package's name in Debian.
	Package string
	// Present reports whether this machine has it already, from wherever.
	Present func() bool
	// Aside has it unpacked in a folder of its own and not installed, since it
	// excludes a package that is needed, too. User is whom its scripts would make.
	Aside bool
	User  string
}

// UpRequirements are what `./task up` runs besides certctl's own binaries.
func UpRequirements() []Requirement {
	return []Requirement{
		// Debian's newest version; "postgresql-15" exists in Debian 12 only.
		{Package: "postgresql", Present: succeeds(findPostgres)},
		{Package: "nginx-light", Present: succeeds(FindNginx)},
	}
}

// TestRequirements are what `./task test` needs: the race detector wants a C
// compiler.
func TestRequirements() []Requirement {
	return append(UpRequirements(),
		Requirement{Package: "haproxy", Present: succeeds(FindHAProxy)},
		Requirement{Package: "apache2", Present: succeeds(FindApache)},
		Requirement{Package: "pdns-backend-lmdb", Present: succeeds(FindPowerDNS)},
		Requirement{Package: "patch", Present: succeeds(func() (string, error) { return exec.LookPath("patch") })},
		Requirement{Package: "gcc", Present: succeeds(func() (string, error) { return exec.LookPath("gcc") })},
		Requirement{Package: "libc6-dev", Present: succeeds(findLibc)},
	)
}

// AllRequirements are what `./task test:all` needs: further daemons, Prometheus, other
// ACME clients, and a container engine in a network namespace of its own.
func AllRequirements() []Requirement {
	return append(TestRequirements(),
		Requirement{Package: "postfix", Present: succeeds(FindPostfix)},
		Requirement{Package: "dovecot-imapd", Present: succeeds(FindDoveconf)},
		Requirement{Package: "lighttpd-mod-openssl", Present: succeeds(FindLighttpd)},
		Requirement{Package: "redis-server", Present: succeeds(FindRedis)},
		Requirement{Package: "mosquitto", Present: succeeds(FindMosquitto)},
		Requirement{Package: "rabbitmq-server", Present: succeeds(FindRabbitMQ)},
		Requirement{Package: "mariadb-server", Present: succeeds(FindMariaDB)},
		Requirement{Package: "slapd", Present: succeeds(FindSlapd)},
		Requirement{Package: "ldap-utils", Present: succeeds(FindLDAPModify)},
		Requirement{Package: "caddy", Present: succeeds(FindCaddy)},
		Requirement{Package: "stunnel4", Present: succeeds(FindStunnel)},
		Requirement{Package: "vsftpd", Present: succeeds(FindVsftpd)},
		Requirement{Package: "openssh-server", Present: succeeds(FindSSHD)},
		Requirement{Package: "openssl", Present: succeeds(program("openssl"))},
		Requirement{Package: "default-jre-headless", Present: succeeds(program("keytool"))},
		// Debian has one mail server at a time.
		Requirement{Package: "libidn12", Present: library("libidn.so.12")},
		Requirement{Package: "libgnutls-dane0", Present: library("libgnutls-dane.so.0")},
		Requirement{Package: eximPackage, Present: succeeds(FindExim), Aside: true, User: eximUser},
		// What people move in from.
		Requirement{Package: "certbot", Present: succeeds(program("certbot"))},
		Requirement{Package: "lego", Present: succeeds(program("lego"))},
		Requirement{Package: "docker.io", Present: succeeds(program("dockerd"))},
		Requirement{Package: "systemd", Present: succeeds(program("systemd-analyze"))},
		Requirement{Package: "rpm", Present: succeeds(program("rpm"))},
		Requirement{Package: "mmdebstrap", Present: succeeds(program("mmdebstrap"))},
		Requirement{Package: "iproute2", Present: succeeds(program("ip"))},
		Requirement{Package: "prometheus", Present: succeeds(program("promtool"))},
		Requirement{Package: "iptables", Present: succeeds(program("iptables"))},
		Requirement{Package: "etcd-server", Present: succeeds(program("etcd"))},
	)
}

func program(name string) func() (string, error) {
	return func() (string, error) { return findDaemon(name, name) }
}

func succeeds(find func() (string, error)) func() bool {
	return func() bool {
		_, err := find()
		return err == nil
	}
}

// library reports whether a library is in one of Debian's folders for them.
func library(name string) func() bool {
	return func() bool {
		found, err := filepath.Glob("/usr/lib/*-linux-gnu/" + name)
		return err == nil && len(found) > 0
	}
}

func findLibc() (string, error) {
	const header = "/usr/include/stdlib.h"
	_, err := os.Stat(header)
	return header, err
}

// Install installs the packages whose requirements are not met, and nothing when
// all are. No service is started by it and no database cluster is made. Where it
// cannot install, its error is a sentence that says what to do.
func Install(ctx context.Context, requirements []Requirement, output io.Writer) error {
	missing := missingPackages(requirements)
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(names(missing), " ")
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("this machine lacks what Debian's packages %s contain: install it, then try again", list)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages are missing: run `apt-get install %s` as root, then try again", list)
	}

	fmt.Fprintf(output, "installing %s\n", list)
	if err := installQuietly(ctx, apt, missing, output); err != nil {
		return fmt.Errorf("install %s: %w", list, err)
	}
	if missing = missingPackages(requirements); len(missing) > 0 {
		return fmt.Errorf("the packages %s are installed, but do not contain what certctl needs",
			strings.Join(names(missing), " "))
	}
	return nil
}

func missingPackages(requirements []Requirement) []Requirement {
	return slices.DeleteFunc(slices.Clone(requirements), func(r Requirement) bool { return r.Present() })
}

func names(requirements []Requirement) []string {
	var all []string
	for _, requirement := range requirements {
		all = append(all, requirement.Package)
	}
	return all
}

func installQuietly(ctx context.Context, apt string, missing []Requirement, output io.Writer) (err error) {
	// Debian starts every daemon that it installs and makes a cluster for
	// PostgreSQL. Both files are there only while it installs.
	for _, file := range []temporaryFile{
		{path: "/usr/sbin/policy-rc.d", content: "#!/bin/sh\nexit 101\n", mode: 0o755},
		{
			path:    "/etc/postgresql-common/createcluster.d/certctl.conf",
			content: "create_main_cluster = false\n", mode: 0o644,
		},
	} {
		remove, writeErr := file.write()
		if writeErr != nil {
			return writeErr
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	if err := runApt(ctx, apt, "update"); err != nil {
		fmt.Fprintf(output, "the package lists could not be updated (%v); going on with those that are here\n", err)
	}
	isAside := func(r Requirement) bool { return r.Aside }
	if packages := slices.DeleteFunc(slices.Clone(missing), isAside); len(packages) > 0 {
		if err := runApt(ctx, apt, append([]string{"install", "--no-install-recommends"}, names(packages)...)...); err != nil {
			return err
		}
	}
	for _, requirement := range missing {
		if !requirement.Aside {
			continue
		}
		if err := unpackAside(ctx, apt, requirement); err != nil {
			return err
		}
	}
	return nil
}

// runApt waits for another installation that is under way. What apt says is of
// interest only when it fails.
func runApt(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, append([]string{"--yes", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w:\n%s", args[0], err, indent(string(bytes.TrimSpace(output))))
	}
	return nil
}

type temporaryFile struct {
	path, content string
	mode          fs.FileMode
}

// write writes the file and returns how to remove it. A file that exists is the
// administrator's, and stays as it is.
func (t temporaryFile) write() (remove func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(t.path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(t.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, t.mode)
	if errors.Is(err, fs.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	_, writeErr := file.WriteString(t.content)
	return func() error { return os.Remove(t.path) }, errors.Join(writeErr, file.Close())
}
