package discover

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// haproxy reads HAProxy's file: it has no dump of its own. That it takes it is asked
// first.
func haproxy(ctx context.Context, o Options) (*found, error) {
	o = o.or("/etc/haproxy/haproxy.cfg", "/usr/sbin/haproxy", "/run/haproxy.pid")
	if out, err := exec.CommandContext(ctx, o.Binary, "-c", "-f", o.Config).CombinedOutput(); err != nil {
		return nil, certctl.Wrap(certctl.Conflict, err, "HAProxy does not take its configuration: %s", certctl.Clip(strings.TrimSpace(string(out)), 1000)).
			WithRemedy("mend it first, or name the right --config")
	}
	content, err := os.ReadFile(o.Config)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the configuration cannot be read")
	}
	version, _, _ := strings.Cut(output(ctx, o.Binary, "-v"), "\n")
	h := &haproxyReader{found: &found{kind: "haproxy", version: version, settings: o.settings()}, config: o.Config}
	for i, line := range strings.Split(string(content), "\n") {
		h.line(i+1, haproxyWords(line))
	}
	return h.found, nil
}

func output(ctx context.Context, argv ...string) string {
	out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() //nolint:gosec // the operator's own
	return strings.TrimSpace(string(out))
}

type haproxyReader struct {
	*found
	config, base string
}

// haproxyWords splits a line; what is quoted is one word.
func haproxyWords(line string) (words []string) {
	var out strings.Builder
	quote, open := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote, open = c, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != '\'' && c == '\\' && i+1 < len(line):
			i++
			out.WriteByte(line[i])
			open = true
		case quote == 0 && c == '#':
			i = len(line)
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r'):
			if open {
				words = append(words, out.String())
				out.Reset()
				open = false
			}
		default:
			out.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, out.String())
	}
	return words
}

func (h *haproxyReader) line(n int, words []string) {
	switch {
	case len(words) == 2 && words[0] == "crt-base":
		h.base = words[1]
	case len(words) > 2 && words[0] == "bind" && slices.Contains(words, "ssl"):
		h.bind(n, words)
	}
}

func (h *haproxyReader) bind(n int, words []string) {
	where := place(h.config, n)
	var listen []string
	for _, address := range strings.Split(words[1], ",") {
		address = strings.TrimPrefix(strings.TrimPrefix(address, "ipv4@"), "ipv6@")
		if rest, is := strings.CutPrefix(address, ":::"); is {
			address = "[::]:" + rest
		}
		if a := local(address, ""); a != "" {
			listen = union(listen, []string{a})
		}
	}
	if len(listen) == 0 {
		h.problem(where, "listens with TLS at no address that can be probed ("+words[1]+")", "make a target for it by hand")
		return
	}
	for i := 2; i+1 < len(words); i++ {
		switch words[i] {
		case "crt":
			h.crt(h.config, n, words[i+1], listen)
			i++
		case "crt-list":
			h.crtList(n, words[i+1], listen)
			i++
		}
	}
}

// crt is a file, or a folder of files.
func (h *haproxyReader) crt(file string, n int, word string, listen []string) {
	where := place(file, n)
	if strings.Contains(word, "$") {
		h.problem(where, "names its certificate by a variable ("+word+"): which one that is, is known only when HAProxy starts", "name a file, or leave this one as it is")
		return
	}
	path := word
	if h.base != "" && !filepath.IsAbs(word) {
		path = filepath.Join(h.base, word)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		h.problem(where, path+" cannot be read: certificates in files of several algorithms (.rsa, .ecdsa) are not taken over", "name each file by itself")
	case info.IsDir():
		h.folder(where, path, listen)
	default:
		h.add(use{cert: path, key: keyFile(path), listen: listen, edits: []Edit{{File: file, Line: n, Old: word}}})
	}
}

// keyFile is where the key of a PEM file is: beside it, or in it.
func keyFile(path string) string {
	if _, err := os.Stat(path + ".key"); err == nil {
		return path + ".key"
	}
	return path
}

// folder is one whose every file is a certificate. Links take the places of the
// files: no line changes.
func (h *haproxyReader) folder(where, folder string, listen []string) {
	folder = filepath.Clean(folder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		h.problem(where, err.Error(), "")
		return
	}
	for _, entry := range entries {
		path, base := filepath.Join(folder, entry.Name()), strings.TrimSuffix(entry.Name(), ".pem")
		switch {
		case strings.HasPrefix(base, ".") || strings.HasSuffix(base, ".key") || strings.HasSuffix(base, ".ocsp") || strings.HasSuffix(base, ".issuer") || strings.HasSuffix(base, ".sctl"):
		case base == entry.Name() || certctl.CheckPlace(base) != nil:
			h.problem(path, "is not called <name>.pem, as the links of a target are", "rename it, and reload HAProxy")
		default:
			h.add(use{cert: path, key: keyFile(path), place: base, links: folder, listen: listen})
		}
	}
}

// crtList is a file that names certificates, one a line.
func (h *haproxyReader) crtList(n int, list string, listen []string) {
	content, err := os.ReadFile(list)
	if err != nil {
		h.problem(place(h.config, n), err.Error(), "")
		return
	}
	for i, line := range strings.Split(string(content), "\n") {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			h.crt(list, i+1, fields[0], listen)
		}
	}
}
