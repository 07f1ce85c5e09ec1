package target

import (
	"context"
	"encoding/json"
	"io/fs"
	"os/user"
	"slices"
	"strconv"

	"github.com/certctl/certctl"
)

var filesKind = Descriptor{
	Kind: "files", Title: "Files, with optional commands", Check: true, Rollback: true, Probe: true, open: openFiles,
}

// filesSettings are the settings of a target of kind files.
type filesSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	// Owner and Group of the files, names or ids; default: the agent's.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	// KeyMode is the mode of the private key, octal text; default 0600, at most 0640.
	KeyMode string `json:"key_mode,omitempty"`
	// Bundle also writes bundle.pem: key, leaf and chain in one file.
	Bundle bool `json:"bundle,omitempty"`
	// CheckCommand and ReloadCommand are argument vectors, never a shell's text.
	CheckCommand  []string `json:"check_command,omitempty"`
	ReloadCommand []string `json:"reload_command,omitempty"`
	// Listen are addresses to probe; without one the outcome is "installed".
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
	for name, argv := range map[string][]string{"check_command": s.CheckCommand, "reload_command": s.ReloadCommand} {
		if len(argv) > 0 {
			absolute(&bad, name+"/0", argv[0])
		}
	}
	f.place = layout{directory: s.Directory, uid: -1, gid: -1, keyMode: 0o600}
	if s.KeyMode != "" {
		mode, err := strconv.ParseUint(s.KeyMode, 8, 32)
		if err != nil || mode&^0o640 != 0 || mode&0o400 == 0 {
			bad.Add("/settings/key_mode", "must be 0400, 0440, 0600 or 0640")
		}
		f.place.keyMode = fs.FileMode(mode)
	}
	return f, bad.Err()
}

// layout looks up owner and group on this node; ids need no look-up.
func (f *files) layout() layout {
	out := f.place
	if id, err := f.uid(); err == nil {
		out.uid = id
	}
	if id, err := f.gid(); err == nil {
		out.gid = id
	}
	return out
}

func (f *files) uid() (int, error) {
	if f.settings.Owner == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(f.settings.Owner); err == nil {
		return id, nil
	}
	found, err := user.Lookup(f.settings.Owner)
	if err != nil {
		return -1, certctl.Wrap(certctl.Invalid, err, "there is no user %q on this node", f.settings.Owner)
	}
	return strconv.Atoi(found.Uid)
}

func (f *files) gid() (int, error) {
	if f.settings.Group == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(f.settings.Group); err == nil {
		return id, nil
	}
	found, err := user.LookupGroup(f.settings.Group)
	if err != nil {
		return -1, certctl.Wrap(certctl.Invalid, err, "there is no group %q on this node", f.settings.Group)
	}
	return strconv.Atoi(found.Gid)
}

func (f *files) files(m material) ([]file, error) {
	if !f.settings.Bundle {
		return nil, nil
	}
	bundle, err := bundleFile(m)
	return []file{bundle}, err
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
	if _, err := f.uid(); err != nil {
		return err
	}
	if _, err := f.gid(); err != nil {
		return err
	}
	if err := p.AllowDirectory(f.settings.Directory); err != nil {
		return err
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
