package discover

import (
	"net"
	"slices"
	"strings"
)

// Options say where a daemon is, where that is not as packages have it.
type Options struct {
	Config, Binary, PIDFile, Directory string
	Reload                             []string
}

// Edit is a word of a configuration that is to be another one.
type Edit struct {
	File string
	Line int    // from 1
	Old  string // as it stands there
	Key  bool   // it names the key, else the certificate
	Drop bool   // the line is of no use any more
}

// use is a certificate that a daemon is configured with.
type use struct {
	cert, key string // files; the same where both are in one
	chain     string // file with the rest of the chain; "": none
	place     string // that it must have; "": any
	links     string // folder in which its file is replaced by a link: no line changes
	listen    []string
	paired    bool // another one, of another algorithm, serves the same names
	pair      string
	edits     []Edit
}

// Problem is something that keeps a certificate from being taken over, or that
// will surprise somebody.
type Problem struct {
	Where   string `yaml:"where" json:"where"`
	Message string `yaml:"message" json:"message"`
	Remedy  string `yaml:"remedy,omitempty" json:"remedy,omitempty"`
}

// found is what a daemon's configuration says.
type found struct {
	kind, version string
	settings      map[string]any
	uses          []*use
	problems      []Problem
}

func (f *found) problem(where, message, remedy string) {
	p := Problem{where, message, remedy}
	if !slices.Contains(f.problems, p) {
		f.problems = append(f.problems, p)
	}
}

// add notes a use, merged with others of the same files and listeners.
func (f *found) add(u use) *use {
	for _, known := range f.uses {
		if known.cert == u.cert && known.key == u.key {
			for _, e := range u.edits {
				if !slices.Contains(known.edits, e) {
					known.edits = append(known.edits, e)
				}
			}
			known.listen = union(known.listen, u.listen)
			if u.paired {
				known.paired, known.pair = true, u.pair
			}
			return known
		}
	}
	f.uses = append(f.uses, &u)
	return &u
}

// union leaves both as they are: they may be parts of other uses.
func union(a, b []string) []string {
	a = slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	slices.Sort(a)
	return a
}

// local is an address of this node at which a listener is reached: everywhere is
// loopback. "" is none.
func local(address, defaultPort string) string {
	address = strings.Trim(address, " ")
	if address == "" || strings.HasPrefix(address, "unix") || strings.HasPrefix(address, "/") {
		return ""
	}
	if !strings.Contains(address, ":") || strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		if strings.Trim(address, "0123456789") == "" {
			address = ":" + address
		} else {
			address += ":" + defaultPort
		}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.Trim(port, "0123456789") != "" || port == "" {
		return ""
	}
	switch host {
	case "", "*", "0.0.0.0", "_default_":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
