package target

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

var traefikKind = Descriptor{
	Kind: "traefik", Title: "Traefik, by its file provider", Hitless: true, Rollback: true, Probe: true, Experimental: true, open: openTraefik,
}

// traefikSettings are the settings of a target of kind traefik.
type traefikSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Documents is the folder that Traefik watches (providers.file.directory).
	Documents string `json:"documents"`
	// DefaultPlace is the place whose certificate is served for names that no other
	// one is for.
	DefaultPlace string `json:"default_place,omitempty"`
	// Listen are the addresses to probe, see probe.Address.
	Listen []string `json:"listen"`
}

// traefik reads the files that a document names when the folder changes that the
// document is in, and keeps what it has when it cannot. So each generation has a
// document that names its own files, and the folder a link to the newest.
type traefik struct {
	settings traefikSettings
	place    layout
}

var (
	_ driver   = (*traefik)(nil)
	_ numbered = (*traefik)(nil)
)

func openTraefik(raw json.RawMessage) (driver, error) {
	t := &traefik{}
	if err := decode(raw, &t.settings); err != nil {
		return nil, err
	}
	s := t.settings
	var bad certctl.FieldErrors
	absolute(&bad, "directory", s.Directory)
	absolute(&bad, "documents", s.Documents)
	if below(s.Documents, s.Directory) || below(s.Directory, s.Documents) {
		// It reads the folders below the one that it watches, too.
		bad.Add("/settings/documents", "neither of it and the directory may be below the other")
	}
	if strings.Contains(s.Directory, "{{") {
		bad.Add("/settings/directory", "must not contain {{, which Traefik takes for the beginning of a template")
	}
	if s.DefaultPlace != "" && certctl.CheckPlace(s.DefaultPlace) != nil {
		bad.Add("/settings/default_place", "must be the name of a place")
	}
	checkAddresses(&bad, "listen", s.Listen)
	t.place = layout{
		directory: s.Directory, uid: -1, gid: -1, keyMode: s.mode(&bad), links: s.Documents, linked: fileDocument,
	}
	return t, bad.Err()
}

// fileDocument is the name of the document in each generation.
const fileDocument = "traefik.yml"

// traefikDocument is what is used of Traefik's dynamic configuration.
type traefikDocument struct {
	TLS traefikTLS `yaml:"tls"`
}

type traefikTLS struct {
	Certificates []traefikPair           `yaml:"certificates"`
	Stores       map[string]traefikStore `yaml:"stores,omitempty"`
}

type traefikStore struct {
	DefaultCertificate traefikPair `yaml:"defaultCertificate"`
}

type traefikPair struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

func (t *traefik) layout() layout { return t.settings.on(t.place) }

// files is none: the document names its generation, whose number is not known yet.
func (t *traefik) files(material) ([]file, error) { return nil, nil }

// numbered renders the document of a generation.
func (t *traefik) numbered(m material, n int) ([]file, error) {
	dir := m.place.generation(n)
	pair := traefikPair{CertFile: filepath.Join(dir, fileFullchain), KeyFile: filepath.Join(dir, fileKey)}
	document := traefikDocument{TLS: traefikTLS{Certificates: []traefikPair{pair}}}
	if t.settings.DefaultPlace == m.install.Command.Place {
		document.TLS.Stores = map[string]traefikStore{"default": {DefaultCertificate: pair}}
	}
	content, err := yaml.Marshal(document)
	return []file{{name: fileDocument, content: content}}, err
}

func (t *traefik) check() []string     { return nil }
func (t *traefik) addresses() []string { return t.settings.Listen }

// reload is nothing to be done: the rename of the link is what Traefik notices.
func (t *traefik) reload(context.Context) error { return nil }

func (t *traefik) allowed(p Policy) error {
	if err := t.settings.allowed(); err != nil {
		return err
	}
	if err := p.AllowDirectory(t.settings.Directory); err != nil {
		return err
	}
	return p.AllowDirectory(t.settings.Documents)
}
