package discover

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// nginx asks nginx itself for its whole configuration, with everything that it
// includes.
func nginx(ctx context.Context, o Options) (*found, error) {
	o = o.or("/etc/nginx/nginx.conf", "/usr/sbin/nginx", "/run/nginx.pid")
	out, err := exec.CommandContext(ctx, o.Binary, "-T", "-e", "stderr", "-c", o.Config).CombinedOutput()
	if err != nil {
		return nil, certctl.Wrap(certctl.Conflict, err, "nginx does not take its configuration: %s", certctl.Clip(strings.TrimSpace(string(out)), 1000)).
			WithRemedy("mend it first, or name the right --config")
	}
	version, _ := exec.CommandContext(ctx, o.Binary, "-v").CombinedOutput()
	f := &found{kind: "nginx", version: strings.TrimSpace(string(version)), settings: o.settings()}
	files := dumped(string(out))
	if _, ok := files[o.Config]; !ok {
		return nil, certctl.Errorf(certctl.Internal, "the dump of nginx does not hold %s", o.Config)
	}
	p := &nginxParser{files: files, prefix: filepath.Dir(o.Config)}
	f.readNginx(p.parse(o.Config, 0), nginxLevel{prefix: p.prefix})
	return f, nil
}

// dumped splits the output of nginx -T into its files.
func dumped(out string) map[string]string {
	const mark = "# configuration file "
	files, name := map[string]string{}, ""
	for line := range strings.Lines(out) {
		if rest, is := strings.CutPrefix(line, mark); is && strings.HasSuffix(rest, ":\n") {
			name = strings.TrimSuffix(rest, ":\n")
			continue
		}
		if name != "" {
			files[name] += line
		}
	}
	return files
}

// nginxDirective is one of nginx's, with what is in its block.
type nginxDirective struct {
	name, file string
	args       []string
	line       int
	block      []nginxDirective
}

// nginxLevel is what a block inherits.
type nginxLevel struct {
	prefix      string
	certs, keys []nginxDirective
	tls         []string // addresses at which any server of the block speaks TLS
}

// readNginx walks through blocks down to servers.
func (f *found) readNginx(block []nginxDirective, level nginxLevel) {
	level = level.with(block)
	for _, d := range block {
		switch d.name {
		case "http", "stream":
			level.tls = nginxTLS(d.block)
			f.readNginx(d.block, level)
		case "mail":
			f.problem(at(d), "certificates of mail servers are not read", "make a target for them by hand; their listeners begin TLS within SMTP, IMAP or POP3")
		case "server":
			f.nginxServer(d, level.with(d.block))
		}
	}
}

// with is the level inside a block: what it sets replaces what it inherits.
func (l nginxLevel) with(block []nginxDirective) nginxLevel {
	if certs := named(block, "ssl_certificate"); len(certs) > 0 {
		l.certs = certs
	}
	if keys := named(block, "ssl_certificate_key"); len(keys) > 0 {
		l.keys = keys
	}
	return l
}

func named(block []nginxDirective, name string) (all []nginxDirective) {
	for _, d := range block {
		if d.name == name && len(d.args) > 0 {
			all = append(all, d)
		}
	}
	return all
}

func at(d nginxDirective) string { return place(d.file, d.line) }

// nginxServer reads one server that speaks TLS.
func (f *found) nginxServer(server nginxDirective, level nginxLevel) {
	listen, tls := nginxListens(server.block, level.tls)
	if !tls || len(level.certs) == 0 {
		return
	}
	if len(listen) == 0 {
		f.problem(at(server), "listens with TLS at no address that can be probed", "give it one that the node itself reaches")
		return
	}
	if len(level.keys) != len(level.certs) {
		f.problem(at(server), "has not as many keys as certificates", "")
		return
	}
	pair := level.certs[0].args[0]
	for i, cert := range level.certs {
		key := level.keys[i]
		if message := unusable(cert.args[0], key.args[0]); message != "" {
			f.problem(at(cert), message, "name a file, or leave this server as it is")
			continue
		}
		f.add(use{
			cert: absoluteTo(level.prefix, cert.args[0]), key: absoluteTo(level.prefix, key.args[0]), listen: listen,
			paired: len(level.certs) > 1, pair: absoluteTo(level.prefix, pair),
			edits: []Edit{{File: cert.file, Line: cert.line, Old: cert.args[0]}, {File: key.file, Line: key.line, Old: key.args[0], Key: true}},
		})
	}
}

// unusable says why a certificate that is named so cannot be taken over.
func unusable(cert, key string) string {
	for _, value := range []string{cert, key} {
		switch {
		case strings.Contains(value, "$"):
			return "names its certificate by a variable (" + value + "): which one that is, is known only when somebody connects"
		case strings.HasPrefix(value, "data:"), strings.HasPrefix(value, "engine:"), strings.HasPrefix(value, "store:"):
			return "has its certificate or key in no file (" + certctl.Clip(value, 60) + ")"
		}
	}
	return ""
}

// nginxTLS are the addresses that any server of a block says are for TLS. They are
// so for all of its servers.
func nginxTLS(block []nginxDirective) (addresses []string) {
	for _, server := range block {
		if server.name != "server" {
			continue
		}
		for _, d := range named(server.block, "listen") {
			if slices.Contains(d.args[1:], "ssl") {
				addresses = append(addresses, nginxAddress(d.args[0]))
			}
		}
	}
	return addresses
}

// nginxAddress is an address of listen in one way of several: those that differ are
// listeners of their own, also where one is everywhere.
func nginxAddress(text string) string {
	host, port := "", text
	if i := strings.LastIndex(text, ":"); i > strings.LastIndex(text, "]") {
		host, port = text[:i], text[i+1:]
	} else if strings.Trim(text, "0123456789") != "" {
		host, port = text, "80"
	}
	if host == "" || host == "*" {
		host = "0.0.0.0"
	}
	return host + ":" + port
}

// nginxListens are the addresses at which a server speaks TLS.
func nginxListens(block []nginxDirective, others []string) (addresses []string, tls bool) {
	on := slices.ContainsFunc(named(block, "ssl"), func(d nginxDirective) bool { return d.args[0] == "on" })
	for _, d := range named(block, "listen") {
		if !on && !slices.Contains(others, nginxAddress(d.args[0])) {
			continue
		}
		tls = true
		if address := local(d.args[0], "80"); address != "" {
			addresses = union(addresses, []string{address})
		}
	}
	return addresses, tls
}
