package discover

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
)

// apache asks Apache which files it reads, and reads them: its own dump of a
// configuration needs a module that packages do not load.
func apache(ctx context.Context, o Options) (*found, error) {
	o = o.or("/etc/apache2/apache2.conf", "/usr/sbin/apache2ctl", "/run/apache2/apache2.pid")
	out, err := exec.CommandContext(ctx, o.Binary, "-f", o.Config, "-t", "-D", "DUMP_INCLUDES").CombinedOutput()
	if err != nil {
		return nil, certctl.Wrap(certctl.Conflict, err, "Apache does not take its configuration: %s", certctl.Clip(strings.TrimSpace(string(out)), 1000)).
			WithRemedy("mend it first, or name the right --config; where the configuration uses variables of the environment, --binary is apache2ctl")
	}
	version, _, _ := strings.Cut(output(ctx, o.Binary, "-v"), "\n")
	if len(o.Reload) == 0 && strings.HasSuffix(o.Binary, "ctl") {
		_, err := os.Stat("/run/systemd/system")
		o.Reload = apacheReload(o, err == nil)
	}
	a := &apacheReader{found: &found{kind: "apache", version: version, settings: o.settings()}, root: filepath.Dir(o.Config)}
	if err := a.file(included(string(out), o.Config)); err != nil {
		return nil, err
	}
	a.end(&a.server)
	return a.found, nil
}

// apacheReload is how an Apache is reloaded whose program is a script: the process in
// its pid file is not called like that, and not signalled therefore. Where systemd
// runs it is asked, since the script starts an Apache that does not run.
func apacheReload(o Options, systemd bool) []string {
	if !systemd {
		return []string{o.Binary, "-f", o.Config, "-k", "graceful"}
	}
	unit := strings.TrimSuffix(filepath.Base(realPath(o.Binary)), "ctl")
	if unit == "apache" {
		unit = "httpd" // where the script is Apache's own
	}
	return []string{"/usr/bin/systemctl", "reload", unit}
}

// includedLine is one of Apache's list: how deep, (line that includes it) and the file.
var includedLine = regexp.MustCompile(`^( *)\((\*|\d+)\) (/.*)$`)

// apacheFile is a file with those that it includes. One that is included at several
// lines is there for each: what it sets belongs to where it stands.
type apacheFile struct {
	path     string
	line     int // of the file above
	included []*apacheFile
}

// included is that list as a tree.
func included(out, config string) *apacheFile {
	root := &apacheFile{path: config}
	type level struct {
		depth int
		file  *apacheFile
	}
	above := []level{{-1, root}}
	for text := range strings.Lines(out) {
		match := includedLine.FindStringSubmatch(strings.TrimRight(text, "\r\n"))
		if match == nil || match[2] == "*" {
			continue
		}
		depth := len(match[1])
		for len(above) > 1 && above[len(above)-1].depth >= depth {
			above = above[:len(above)-1]
		}
		n, _ := strconv.Atoi(match[2])
		file, parent := &apacheFile{path: match[3], line: n}, above[len(above)-1].file
		parent.included = append(parent.included, file)
		above = append(above, level{depth, file})
	}
	return root
}

// virtualHost is what is read of one, or of the server around them.
type virtualHost struct {
	where       string
	listen      []string
	certs, keys []apacheWord
	chain       string // file
	drops       []Edit
	on          bool
}

type apacheWord struct {
	file, text string
	line       int
}

type apacheReader struct {
	*found
	root   string
	server virtualHost // what virtual hosts inherit
	host   *virtualHost
}

// file reads one file, and those that it includes where it does.
func (a *apacheReader) file(f *apacheFile) error {
	lines, err := readLines(f.path)
	if err != nil {
		return err
	}
	for i, line := range lines {
		a.line(f.path, i+1, haproxyWords(line)) // quotes and comments are alike
		for _, other := range f.included {
			if other.line != i+1 {
				continue
			}
			if err := a.file(other); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *apacheReader) line(file string, n int, words []string) {
	if len(words) == 0 {
		return
	}
	host := &a.server
	if a.host != nil {
		host = a.host
	}
	value := ""
	if len(words) > 1 {
		value = words[1]
	}
	switch strings.ToLower(words[0]) {
	case "serverroot":
		a.root = value
	case "<virtualhost":
		a.host = &virtualHost{where: place(file, n), on: a.server.on}
		for _, address := range words[1:] {
			if l := local(strings.TrimSuffix(address, ">"), "443"); l != "" {
				a.host.listen = union(a.host.listen, []string{l})
			}
		}
	case "</virtualhost>":
		if a.host != nil {
			a.end(a.host)
			a.host = nil
		}
	case "sslengine":
		host.on = strings.EqualFold(value, "on")
	case "sslcertificatefile":
		host.certs = append(host.certs, apacheWord{file, value, n})
	case "sslcertificatekeyfile":
		host.keys = append(host.keys, apacheWord{file, value, n})
	case "sslcertificatechainfile":
		host.chain = value
		host.drops = append(host.drops, Edit{File: file, Line: n, Old: value, Drop: true})
	}
}

// end takes what a virtual host is configured with.
func (a *apacheReader) end(h *virtualHost) {
	if !h.on || h == &a.server {
		return
	}
	certs, keys, drops, chain := h.certs, h.keys, h.drops, cmp.Or(h.chain, a.server.chain)
	if len(certs) == 0 {
		certs, keys, drops = a.server.certs, a.server.keys, a.server.drops
	}
	switch {
	case len(certs) == 0:
		return
	case len(h.listen) == 0:
		a.problem(h.where, "listens with TLS at no address that can be probed", "give it one that the node itself reaches")
		return
	case len(keys) > 0 && len(keys) != len(certs):
		a.problem(h.where, "has not as many keys as certificates", "")
		return
	}
	for i, cert := range certs {
		key := cert
		edits := append([]Edit{{File: cert.file, Line: cert.line, Old: cert.text}}, drops...)
		if len(keys) > 0 {
			key = keys[i]
			edits = append(edits, Edit{File: key.file, Line: key.line, Old: key.text, Key: true})
		} else {
			a.problem(place(cert.file, cert.line), "has certificate and key in one file: add a line SSLCertificateKeyFile for the key before the change below", "")
		}
		if strings.Contains(cert.text+key.text+chain, "${") {
			a.problem(place(cert.file, cert.line), "names its certificate by a variable ("+cert.text+")", "name a file, or leave this virtual host as it is")
			continue
		}
		u := use{
			cert: absoluteTo(a.root, cert.text), key: absoluteTo(a.root, key.text), listen: h.listen,
			paired: len(certs) > 1, pair: absoluteTo(a.root, certs[0].text), edits: edits,
		}
		if chain != "" {
			u.chain = absoluteTo(a.root, chain)
		}
		a.add(u)
	}
}
