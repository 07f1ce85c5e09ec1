package target

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
)

var filesKind = Descriptor{
	Kind: "files", Title: "Files, with optional commands", Check: true, Rollback: true, Probe: true, open: openFiles,
}

// filesSettings are the settings of a target of kind files.
type filesSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Bundle also writes bundle.pem: key, leaf and chain in one file.
	Bundle bool `json:"bundle,omitempty"`
	// Formats are further ones to write: der, pkcs12, jks.
	Formats []string `json:"formats,omitempty"`
	// PasswordFile is a file of this node with the password of those that have one.
	PasswordFile string `json:"password_file,omitempty"`
	// CheckCommand and ReloadCommand are argument vectors, never a shell's text.
	CheckCommand  []string `json:"check_command,omitempty"`
	ReloadCommand []string `json:"reload_command,omitempty"`
	// Listen are addresses to probe, see probe.Address; without one the outcome is "installed".
	Listen []string `json:"listen,omitempty"`
}

type files struct {
	settings filesSettings
	place    layout
}

func openFiles(raw json.RawMessage) (driver, error) {
	f := &files{}
	if err := decode(raw, &f.settings); err != nil {
		return nil, err
	}
	s := f.settings
	var bad certctl.FieldErrors
	absolute(&bad, "directory", s.Directory)
	checkAddresses(&bad, "listen", s.Listen)
	checkFormats(&bad, s.Formats, s.PasswordFile)
	for name, argv := range map[string][]string{"check_command": s.CheckCommand, "reload_command": s.ReloadCommand} {
		if len(argv) > 0 {
			absolute(&bad, name+"/0", argv[0])
		}
	}
	f.place = layout{directory: s.Directory, uid: -1, gid: -1, keyMode: s.mode(&bad)}
	return f, bad.Err()
}

func (f *files) layout() layout { return f.settings.on(f.place) }

func (f *files) files(m material) ([]file, error) {
	all, err := formatFiles(m, f.settings.Formats, f.settings.PasswordFile)
	if err != nil || !f.settings.Bundle {
		return all, err
	}
	bundle, err := bundleFile(m)
	return append(all, bundle), err
}

// bundleFile is key, leaf and chain in one file.
func bundleFile(m material) (file, error) {
	parts, err := pemFiles(m.install.Command, m.install.Key)
	if err != nil {
		return file{}, err
	}
	content := map[string][]byte{}
	for _, part := range parts {
		content[part.name] = part.content
	}
	return file{name: fileBundle, content: slices.Concat(content[fileKey], content[fileFullchain]), secret: true}, nil
}

func (f *files) check() []string     { return f.settings.CheckCommand }
func (f *files) addresses() []string { return f.settings.Listen }

func (f *files) allowed(p Policy) error {
	if err := f.settings.allowed(); err != nil {
		return err
	}
	if err := p.AllowDirectory(f.settings.Directory); err != nil {
		return err
	}
	if f.settings.PasswordFile != "" {
		if err := p.AllowConfig(f.settings.PasswordFile); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{f.settings.CheckCommand, f.settings.ReloadCommand} {
		if len(argv) == 0 {
			continue
		}
		if err := p.AllowCommand(argv); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) reload(ctx context.Context) error {
	if len(f.settings.ReloadCommand) == 0 {
		return nil
	}
	return execute(ctx, plainCommand(f.settings.ReloadCommand))
}
