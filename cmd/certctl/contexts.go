package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// contexts is the contexts file: installations by name, as kubectl has them.
type contexts struct {
	Current  string           `yaml:"current,omitempty"`
	Contexts map[string]entry `yaml:"contexts"`
}

// entry is one installation. The key stands in a file of its own, so that the
// contexts file can be shared.
type entry struct {
	Server  string `yaml:"server"`
	KeyFile string `yaml:"key_file,omitempty"`
	CAFile  string `yaml:"ca_file,omitempty"`
}

// contextsPath is CERTCTL_CONFIG, or certctl/contexts.yaml in the user's
// configuration folder.
func contextsPath() (string, error) {
	if path := os.Getenv("CERTCTL_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "there is no configuration folder").WithRemedy("set CERTCTL_CONFIG to a file")
	}
	return filepath.Join(dir, "certctl", "contexts.yaml"), nil
}

func loadContexts() (contexts, error) {
	file := contexts{Contexts: map[string]entry{}}
	path, err := contextsPath()
	if err != nil {
		return file, err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err == nil {
		err = yaml.Unmarshal(content, &file)
	}
	if err != nil {
		return file, certctl.Wrap(certctl.Invalid, err, "the contexts file %s cannot be read", path)
	}
	if file.Contexts == nil {
		file.Contexts = map[string]entry{}
	}
	return file, nil
}

func (c contexts) save() error {
	path, err := contextsPath()
	if err != nil {
		return err
	}
	content, err := yaml.Marshal(c)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the contexts cannot be encoded")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the folder of %s cannot be made", path)
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be written", path)
	}
	return os.Rename(temporary, path)
}

// resolve returns the server, key and CA to use.
func (s *session) resolve() (Globals, error) {
	settings := s.globals
	file, err := loadContexts()
	if err != nil {
		return settings, err
	}
	name := settings.Context
	if name == "" {
		name = file.Current
	}
	chosen, known := file.Contexts[name]
	if settings.Context != "" && !known {
		return settings, certctl.Errorf(certctl.Invalid, "there is no context %q", settings.Context).WithRemedy("certctl contexts list")
	}
	if settings.Server == "" {
		settings.Server = chosen.Server
		if settings.CAFile == "" {
			settings.CAFile = chosen.CAFile
		}
		if settings.Key == "" && chosen.KeyFile != "" {
			key, err := os.ReadFile(chosen.KeyFile)
			if err != nil {
				return settings, certctl.Wrap(certctl.Invalid, err, "the key file %s cannot be read", chosen.KeyFile)
			}
			settings.Key = trimLine(string(key))
		}
	}
	switch {
	case settings.Server == "":
		return settings, certctl.Errorf(certctl.Invalid, "no server is set").
			WithRemedy("certctl contexts set NAME --server https://… --key-file … --ca-file …, or set CERTCTL_SERVER, CERTCTL_KEY_FILE and CERTCTL_CA_FILE")
	case settings.Key == "":
		return settings, certctl.Errorf(certctl.Invalid, "no API key is set").WithRemedy("set CERTCTL_KEY_FILE, or use a context")
	}
	return settings, nil
}

type contextsCmd struct {
	List contextsListCmd `cmd:"" help:"List contexts; the current one is marked."`
	Set  contextsSetCmd  `cmd:"" help:"Make or change a context, and use it."`
	Use  contextsUseCmd  `cmd:"" help:"Use a context from now on."`
}

type contextsListCmd struct{}

func (contextsListCmd) Run(s *session) error {
	file, err := loadContexts()
	if err != nil {
		return err
	}
	var items []any
	names := make([]string, 0, len(file.Contexts))
	for name := range file.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		mark := ""
		if name == file.Current {
			mark = "*"
		}
		items = append(items, object{"current": mark, "name": name, "server": file.Contexts[name].Server})
	}
	return s.show(items, columns{"current", "name", "server"})
}

type contextsSetCmd struct {
	Name     string `arg:"" help:"Name of the context."`
	ToServer string `help:"URL of the API." required:"" name:"to" placeholder:"URL"`
	KeyFile  string `help:"File with the API key." type:"path" env:"-" name:"with-key-file" placeholder:"FILE"`
	CA       string `help:"File with the root certificate." type:"path" env:"-" name:"with-ca-file" placeholder:"FILE"`
}

func (c contextsSetCmd) Run(_ *session) error {
	file, err := loadContexts()
	if err != nil {
		return err
	}
	file.Contexts[c.Name] = entry{Server: c.ToServer, KeyFile: c.KeyFile, CAFile: c.CA}
	file.Current = c.Name
	return file.save()
}

type contextsUseCmd struct {
	Name string `arg:"" help:"Name of the context."`
}

func (c contextsUseCmd) Run(_ *session) error {
	file, err := loadContexts()
	if err != nil {
		return err
	}
	if _, known := file.Contexts[c.Name]; !known {
		return certctl.Errorf(certctl.Invalid, "there is no context %q", c.Name)
	}
	file.Current = c.Name
	return file.save()
}
