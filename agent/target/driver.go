package target

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// driver is what differs between kinds.
type driver interface {
	// layout says where generations lie and who may read them.
	layout() layout
	// files renders what a generation holds besides the certificate and key.
	files(m material) ([]file, error)
	// check runs the daemon's own check on its real configuration; nil argv: none.
	check() []string
	// reload makes the daemon read its files again.
	reload(ctx context.Context) error
	// addresses are the node's own listeners to probe; none: no probe is possible.
	addresses() []string
	// allowed holds the settings against the node's policy.
	allowed(p Policy) error
}

// Descriptor describes a kind.
type Descriptor struct {
	Kind  string
	Title string
	// Check, Hitless, Rollback and Probe say what the kind can do.
	Check, Hitless, Rollback, Probe bool
	// Experimental: it was not proven against the real daemon, only against what its
	// makers publish. The API says so of every such target.
	Experimental bool

	// Parse reads the settings of a kind of another package, and touches nothing.
	Parse func(settings json.RawMessage) (Opener, error)

	open func(settings json.RawMessage) (driver, error) // of a kind of this package
}

// kinds is the table: a new kind is a file and one line here.
var kinds = []Descriptor{
	nginxKind, apacheKind, haproxyKind, postgresqlKind, postfixKind, dovecotKind, lighttpdKind, redisKind, mosquittoKind,
	mariadbKind, slapdKind, caddyKind, stunnelKind, eximKind, natsKind, rabbitmqKind, traefikKind, envoyKind, socketKind, filesKind,
}

// Kinds are those of this package.
func Kinds() Table { return slices.Clone(Table(kinds)) }

// Validate is that of the table of this package.
func Validate(kind string, settings json.RawMessage) error {
	return Table(kinds).Validate(kind, settings)
}

// decode reads settings strictly.
func decode(raw json.RawMessage, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return certctl.InvalidField("/settings", "%s", certctl.Clip(err.Error(), 200))
	}
	return nil
}

// absolute notes a path that is not absolute and clean.
func absolute(bad *certctl.FieldErrors, field, path string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		bad.Add("/settings/"+field, "must be an absolute path without . and ..")
	}
}

// Policy is the node's last word on what may be touched.
type Policy interface {
	AllowDirectory(path string) error
	AllowConfig(path string) error
	AllowCommand(argv []string) error
}

// below reports whether a clean path is a folder, or in it.
func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+string(filepath.Separator))
}
