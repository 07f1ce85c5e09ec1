package agent

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// Policy is the node's own word on what the agent may touch. It comes from a
// file of root's, or of the agent's own user, and nothing that the server sends
// can widen it.
//
//	kinds: [nginx, files]                # of targets
//	directories: [/etc/certctl/live]     # certificates and keys are written below these
//	config_roots: [/etc/nginx]           # daemons' configurations are read below these
//	commands:                            # argument vectors
//	  - [/usr/sbin/nginx, -t, ...]       # a last "..." stands for any further arguments
//	  - [/usr/bin/systemctl, reload, "*"] # "*" for exactly one
type Policy struct {
	Kinds       []string   `yaml:"kinds"`
	Directories []string   `yaml:"directories"`
	ConfigRoots []string   `yaml:"config_roots"`
	Commands    [][]string `yaml:"commands"`

	source string // the file, "" for the default
}

// DefaultPolicy is what holds without a policy file: certificates may be written
// to /etc/certctl/live and to "live" in the state directory, the packaged
// configurations of nginx, Apache, HAProxy, lighttpd, Postfix, Dovecot and Caddy
// may be read and checked by their packaged programs, Redis, MariaDB and OpenLDAP
// are told at their packaged sockets, and no other command is run.
func DefaultPolicy(stateDir string) *Policy {
	return &Policy{
		Kinds:       []string{"nginx", "apache", "haproxy", "postfix", "dovecot", "postgresql", "lighttpd", "redis", "mosquitto", "mariadb", "slapd", "caddy", "stunnel", "files"},
		Directories: []string{"/etc/certctl/live", filepath.Join(stateDir, "live")},
		ConfigRoots: []string{"/etc/nginx", "/etc/apache2", "/etc/httpd", "/etc/haproxy", "/etc/postfix", "/etc/dovecot", "/etc/lighttpd", "/run/redis", "/etc/mysql", "/run/slapd", "/etc/caddy"},
		Commands: [][]string{
			{"/usr/sbin/nginx", "..."}, {"/usr/sbin/apache2", "-f", "*", "-t"}, {"/usr/sbin/httpd", "-f", "*", "-t"},
			{"/usr/sbin/haproxy", "-c", "-f", "*"},
			{"/usr/sbin/lighttpd", "-tt", "-f", "*"},
			{"/usr/sbin/postmap", "-c", "*", "-q", "ok", "static:ok"}, {"/usr/sbin/postfix", "-c", "*", "reload"},
			{"/usr/bin/doveconf", "-c", "*", "-h", "ssl_cert", "ssl_key"},
			{"/usr/bin/caddy", "reload", "--force", "--config", "/etc/caddy/Caddyfile"},
			{"/usr/bin/caddy", "validate", "--config", "/etc/caddy/Caddyfile"},
			{"/usr/bin/mariadb", "-e", "FLUSH SSL"},
		},
	}
}

// LoadPolicy reads the policy file. When it does not exist the default holds,
// unless required says that somebody named the file. A file that others may
// write to is refused, since it would be theirs and not the node's.
func LoadPolicy(path, stateDir string, required bool) (*Policy, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return DefaultPolicy(stateDir), nil
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the policy file cannot be read")
	}
	if err := ownedSafely(path, info); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the policy file cannot be read")
	}
	return ParsePolicy(path, content)
}

// ownedSafely refuses a file that anybody but root and the agent could change,
// or replace in its directory.
func ownedSafely(path string, info fs.FileInfo) error {
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the policy file's directory cannot be read")
	}
	for _, entry := range []struct {
		path string
		info fs.FileInfo
	}{{path, info}, {filepath.Dir(path), folder}} {
		stat, ok := entry.info.Sys().(*syscall.Stat_t)
		if !ok || !ownPolicy(int(stat.Uid), os.Geteuid()) {
			return certctl.Errorf(certctl.Invalid, "%s does not belong to root or to the agent's user: such a policy is not the node's", entry.path).
				WithRemedy("chown root %s", entry.path)
		}
		if entry.info.Mode().Perm()&0o022 != 0 && entry.info.Mode()&fs.ModeSticky == 0 {
			return certctl.Errorf(certctl.Invalid, "%s may be written to by others (mode %#o): a policy must not", entry.path, entry.info.Mode().Perm()).
				WithRemedy("chmod go-w %s", entry.path)
		}
	}
	return nil
}

// ownPolicy reports whether a policy of the owner is good enough for an agent
// that runs as user.
func ownPolicy(owner, user int) bool { return owner == 0 || owner == user }

// ParsePolicy reads a policy; unknown keys and relative paths are refused. What
// the file does not name is not allowed.
func ParsePolicy(source string, content []byte) (*Policy, error) {
	policy := &Policy{source: source}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(policy); err != nil && !errors.Is(err, io.EOF) {
		return nil, certctl.Errorf(certctl.Invalid, "%s: %s", source, err.Error())
	}
	for _, path := range slices.Concat(policy.Directories, policy.ConfigRoots) {
		if !filepath.IsAbs(path) || hasDotDot(path) || filepath.Clean(path) == "/" {
			return nil, certctl.Errorf(certctl.Invalid, "%s: %q must be an absolute path below / without ..", source, path)
		}
	}
	for _, argv := range policy.Commands {
		if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
			return nil, certctl.Errorf(certctl.Invalid, "%s: a command begins with the absolute path of a program: %q", source, argv)
		}
	}
	return policy, nil
}

// Source names the file that the policy came from.
func (p *Policy) Source() string {
	if p.source == "" {
		return "built-in default"
	}
	return p.source
}

// AllowKind says whether targets of the kind may be served.
func (p *Policy) AllowKind(kind string) error {
	if slices.Contains(p.Kinds, kind) {
		return nil
	}
	return p.denied("targets of kind "+certctl.Clip(kind, 40), "kinds")
}

// AllowDirectory says whether certificates and keys may be written at path.
func (p *Policy) AllowDirectory(path string) error {
	if within(path, p.Directories) {
		return nil
	}
	return p.denied("writing to "+certctl.Clip(path, 200), "directories")
}

// AllowConfig says whether a daemon's configuration at path may be read.
func (p *Policy) AllowConfig(path string) error {
	if within(path, p.ConfigRoots) {
		return nil
	}
	return p.denied("the configuration "+certctl.Clip(path, 200), "config_roots")
}

// AllowCommand says whether the agent may run the argument vector.
func (p *Policy) AllowCommand(argv []string) error {
	for _, rule := range p.Commands {
		if matchCommand(rule, argv) {
			return nil
		}
	}
	return p.denied("running "+certctl.Clip(strings.Join(argv, " "), 200), "commands")
}

func (p *Policy) denied(what, key string) error {
	e := certctl.Errorf(certctl.Denied, "the policy of this node does not allow %s", what)
	if p.source == "" {
		return e.WithRemedy("this node has no policy file and the built-in default holds: write one that names it under %s, and restart the agent", key)
	}
	return e.WithRemedy("the node's owner may add it under %s in %s, and restart the agent", key, p.source)
}

// matchCommand compares an argument vector with a rule. Programs are the same
// when their paths lead to the same file.
func matchCommand(rule, argv []string) bool {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) || hasDotDot(argv[0]) || resolve(rule[0]) != resolve(argv[0]) {
		return false
	}
	for i, want := range rule[1:] {
		if want == "..." && i == len(rule)-2 {
			return true
		}
		if i+1 >= len(argv) || (want != "*" && want != argv[i+1]) {
			return false
		}
	}
	return len(argv) == len(rule)
}

// within reports whether path is one of the roots or below it, after symbolic
// links on both sides have been followed. A path with ".." is never.
func within(path string, roots []string) bool {
	if !filepath.IsAbs(path) || hasDotDot(path) || strings.ContainsRune(path, 0) {
		return false
	}
	target := resolve(path)
	return target != "" && slices.ContainsFunc(roots, func(root string) bool {
		base := resolve(root)
		return base != "" && (target == base || strings.HasPrefix(target, base+"/"))
	})
}

// resolve follows the symbolic links of the part of an absolute path that
// exists; "" when that cannot be done.
func resolve(path string) string {
	existing, rest := filepath.Clean(path), ""
	for {
		followed, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return filepath.Join(followed, rest)
		}
		// A link that leads nowhere could lead anywhere tomorrow.
		if _, linkErr := os.Lstat(existing); !errors.Is(err, fs.ErrNotExist) || linkErr == nil || existing == "/" {
			return ""
		}
		existing, rest = filepath.Dir(existing), filepath.Join(filepath.Base(existing), rest)
	}
}

func hasDotDot(path string) bool { return slices.Contains(strings.Split(path, "/"), "..") }

// String is the policy as its file would say it.
func (p *Policy) String() string {
	encoded, err := yaml.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}
