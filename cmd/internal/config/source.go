package config

import (
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/certctl/certctl"
)

// sources gives flags that were not on the command line their values. It is
// used for one parse, by one goroutine.
type sources struct {
	environ     map[string]string
	defaultFile string
	flags       map[string]*kong.Flag

	loaded bool
	file   string         // the file that was read
	keys   map[string]any // its values by flag name
	fail   error
}

var _ kong.Resolver = (*sources)(nil)

// Validate is part of kong.Resolver. The file is not known yet when it is called.
func (*sources) Validate(*kong.Application) error { return nil }

// Resolve returns the flag's value from the environment, else from the file,
// else nil. A value that the flag's type cannot hold is refused here, where it
// is still known who gave it.
func (s *sources) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !s.loaded {
		s.loaded = true
		s.fail = s.load(ctx)
	}
	if s.fail != nil {
		return nil, s.fail
	}
	if flag.Name == "help" || commandLineOnly(flag) {
		return nil, nil
	}
	value, origin, err := s.find(flag)
	if err != nil || value == nil {
		return nil, err
	}
	probe := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.Scan().PushTyped(value, kong.FlagValueToken), probe); err != nil {
		if flag.Tag.Has("secret") {
			return nil, certctl.Errorf(certctl.Invalid, "%s: the value is not possible here", origin)
		}
		return nil, certctl.Errorf(certctl.Invalid, "%s: %s", origin, err.Error())
	}
	return value, nil
}

// find looks the flag up and says where its value came from.
func (s *sources) find(flag *kong.Flag) (value any, origin string, err error) {
	name := variable(flag.Name)
	text, set := s.environ[name]
	path, pathSet := "", false
	if flag.Tag.Has("secret") {
		path, pathSet = s.environ[name+"_FILE"]
	}
	switch {
	case set && pathSet:
		return nil, "", certctl.Errorf(certctl.Invalid, "both %s and %s_FILE are set: unset one of them", name, name)
	case set:
		return text, name, nil
	case pathSet:
		secret, err := readSecret(name+"_FILE", path)
		return secret, name + "_FILE", err
	}
	if value, ok := s.keys[flag.Name]; ok {
		return value, s.file + ": " + key(flag.Name), nil
	}
	if path, ok := s.keys[flag.Name+"-file"].(string); ok && flag.Tag.Has("secret") {
		origin := s.file + ": " + key(flag.Name) + "_file"
		secret, err := readSecret(origin, path)
		return secret, origin, err
	}
	return nil, "", nil
}

// load reads the configuration file that the command line, the environment or
// the default names, in this order.
func (s *sources) load(ctx *kong.Context) error {
	flag, ok := s.flags["config"]
	if !ok {
		return nil
	}
	path, named := "", false
	for _, element := range ctx.Path {
		if element.Flag == flag {
			path, named = ctx.FlagValue(flag).(string)
		}
	}
	if !named && !commandLineOnly(flag) {
		path, named = s.environ[variable("config")]
	}
	if !named {
		path = s.defaultFile
	}
	if path == "" {
		return nil
	}
	content, err := readFile(path)
	if os.IsNotExist(err) && !named {
		return nil
	}
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the configuration file cannot be read")
	}
	s.file = path
	s.keys, err = decode(path, content, s.flags)
	return err
}

// readSecret returns a secret file's content without its last line end. An
// empty one is refused: it is nearly always a mount that went wrong.
func readSecret(origin, path string) (string, error) {
	content, err := readFile(path)
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "%s: the secret cannot be read", origin)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if secret == "" {
		return "", certctl.Errorf(certctl.Invalid, "%s: %s is empty", origin, path)
	}
	return secret, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, certctl.Errorf(certctl.Invalid, "%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

func commandLineOnly(flag *kong.Flag) bool {
	return len(flag.Tag.GetAll("env")) == 1 && flag.Tag.Get("env") == "-"
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return Prefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}

// key is the file's key of a flag.
func key(flag string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(flag) }
