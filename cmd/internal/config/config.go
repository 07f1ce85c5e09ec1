// Package config reads a program's settings into one struct: command-line flags
// before CERTCTL_* environment variables before a YAML file before defaults.
//
// Every flag of the struct has all three names, derived by one rule: the flag
// --data-dir is the variable CERTCTL_DATA_DIR and the file's key data_dir (or
// data-dir, or dir below data). A string flag with the tag `secret:""` can also
// be named with the suffix _FILE (_file in the file): then the value is the
// content of that file without its last line end. A flag with the tag `env:"-"`
// is read from the command line only.
//
// Nothing is read and ignored: an unknown key, a key twice, a key without a
// value and a value that does not fit its flag are errors that say where. An
// unknown CERTCTL_* variable is only a warning, since others set variables of
// that form, too (Kubernetes injects CERTCTL_SERVER_PORT for a service named
// certctl-server).
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/certctl/certctl"
)

// Prefix begins the name of every environment variable that is read.
const Prefix = "CERTCTL_"

// maxFile bounds a configuration file and a secret's file.
const maxFile = 1 << 20

// Options say whose settings are read, and from where.
type Options struct {
	Name        string // of the program
	Description string
	Environ     []string          // as os.Environ gives it
	DefaultFile string            // read when it exists and --config names no other one; "" = none
	Known       []string          // further CERTCTL_* variables that this program reads by itself
	Vars        map[string]string // for ${name} in the struct's tags
	Stdout      io.Writer         // help goes there; nil = os.Stdout
	Stderr      io.Writer         // nil = os.Stderr
}

// Parsed is the outcome of Parse: which command was chosen (Context.Command),
// what should be logged, and which file was read ("" = none).
type Parsed struct {
	Context  *kong.Context
	Warnings []string
	File     string
}

// ErrHelp is returned when help was asked for and has been printed.
var ErrHelp = errors.New("help was printed")

// Parse fills cli, a pointer to a struct with kong's tags, from args (without
// the program's name), the environment and the file. When the struct has a flag
// "config", it names the file. Errors are Invalid and say what to change; the
// one exception is ErrHelp.
func Parse(cli any, args []string, o Options) (*Parsed, error) {
	helped := false
	source := &sources{environ: variables(o.Environ), defaultFile: o.DefaultFile}
	parser, err := kong.New(cli,
		kong.Name(o.Name), kong.Description(o.Description), kong.Vars(o.Vars),
		kong.Writers(writer(o.Stdout, os.Stdout), writer(o.Stderr, os.Stderr)),
		kong.Exit(func(int) { helped = true; panic(ErrHelp) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, ValueFormatter: withVariable}),
		kong.ValueFormatter(withVariable),
		kong.Resolvers(source),
	)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the settings of %s are declared wrongly", o.Name)
	}
	source.flags = allFlags(parser.Model.Node)
	ctx, err := run(parser, args)
	if helped {
		return nil, ErrHelp
	}
	if err != nil {
		return nil, invalid(err)
	}
	warnings := unknownVariables(source.environ, source.flags, o.Known)
	return &Parsed{Context: ctx, Warnings: warnings, File: source.file}, nil
}

// run parses and turns the panic by which kong's exit hook leaves into a return.
func run(parser *kong.Kong, args []string) (ctx *kong.Context, err error) {
	defer func() {
		if caught := recover(); caught != nil && caught != any(ErrHelp) {
			panic(caught)
		}
	}()
	return parser.Parse(args)
}

func invalid(err error) error {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours
	}
	return certctl.Errorf(certctl.Invalid, "%s", err.Error())
}

func writer(w, otherwise io.Writer) io.Writer {
	if w == nil {
		return otherwise
	}
	return w
}

// allFlags returns the flags of the program and of all its commands by name.
func allFlags(node *kong.Node) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if flag.Name != "help" {
				flags[flag.Name] = flag
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(node)
	return flags
}

// withVariable is the help text of a flag with the variable that sets it, too.
func withVariable(value *kong.Value) string {
	if value.Flag == nil || value.Flag.Name == "help" || commandLineOnly(value.Flag) {
		return value.Help
	}
	return fmt.Sprintf("%s ($%s)", strings.TrimSuffix(value.Help, "."), variable(value.Flag.Name))
}
