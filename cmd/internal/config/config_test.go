package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type settings struct {
	Config   string            `help:"YAML file."`
	DataDir  string            `help:"State." default:"/var/lib/x"`
	Password string            `help:"Secret." secret:""`
	Labels   map[string]string `help:"Labels."`
	Once     bool              `help:"Only here." env:"-"`
	Serve    struct {
		Poll   time.Duration `help:"Pause." default:"30s"`
		Listen []string      `help:"Addresses."`
		Bus    struct {
			URL     string `help:"Address."`
			Retries int    `help:"Tries." default:"3"`
		} `embed:"" prefix:"bus-"`
	} `cmd:"" help:"Serve."`
	Check struct{} `cmd:"" help:"Check."`
}

func parse(t *testing.T, file string, environ []string, args ...string) (settings, *Parsed, error) {
	t.Helper()
	options := Options{Name: "x", Environ: environ, Stdout: new(strings.Builder), Stderr: new(strings.Builder)}
	if file != "" {
		options.DefaultFile = filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(options.DefaultFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s settings
	parsed, err := Parse(&s, args, options)
	return s, parsed, err
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := "data_dir: /file\npoll: 1m\nbus:\n  url: tls://file\n  retries: 7\nlisten: [a, b]\nlabels: {site: x}\n"
	environ := []string{"CERTCTL_POLL=2m", "CERTCTL_BUS_URL=tls://env", "PATH=/bin"}
	s, parsed, err := parse(t, file, environ, "serve", "--bus-url", "tls://flag")
	if err != nil {
		t.Fatal(err)
	}
	if s.Serve.Bus.URL != "tls://flag" || s.Serve.Poll != 2*time.Minute || s.DataDir != "/file" || s.Serve.Bus.Retries != 7 {
		t.Errorf("got %+v", s)
	}
	if diff := cmp.Diff([]string{"a", "b"}, s.Serve.Listen); diff != "" {
		t.Error(diff)
	}
	if s.Labels["site"] != "x" || len(parsed.Warnings) != 0 || parsed.Context.Command() != "serve" || parsed.File == "" {
		t.Errorf("got %+v %+v", s, parsed)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, parsed, err := parse(t, "# nothing\n", nil, "serve")
	if err != nil || s.DataDir != "/var/lib/x" || s.Serve.Poll != 30*time.Second || s.Serve.Bus.Retries != 3 {
		t.Errorf("got %+v %v", s, err)
	}
	if parsed != nil && len(parsed.Warnings) != 0 {
		t.Errorf("warnings: %v", parsed.Warnings)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file    string
		environ []string
		args    []string
		want    string
	}{
		"unknown key":         {file: "dat_dir: x", want: "x.yaml:1: unknown key dat_dir: did you mean data_dir?"},
		"unknown nested key":  {file: "bus:\n  ural: x", want: "x.yaml:2: unknown key bus_ural: did you mean bus_url?"},
		"twice":               {file: "data_dir: a\ndata-dir: b", want: "x.yaml:2: data_dir is given twice"},
		"twice, nested":       {file: "bus_url: a\nbus: {url: b}", want: "bus_url is given twice"},
		"no value":            {file: "poll:", want: "poll: has no value"},
		"bad duration":        {file: "poll: soon", want: "x.yaml: poll: "},
		"bad variable":        {environ: []string{"CERTCTL_BUS_RETRIES=many"}, want: "CERTCTL_BUS_RETRIES: "},
		"list for a number":   {file: "bus_retries: [1]", want: "bus_retries: "},
		"two documents":       {file: "poll: 1s\n---\npoll: 2s\n", want: "more than one document"},
		"a list":              {file: "[a]", want: "must hold keys with values"},
		"not YAML":            {file: "a: b: c", want: "x.yaml: "},
		"command line only":   {file: "once: true", want: "unknown key once"},
		"missing secret":      {environ: []string{"CERTCTL_PASSWORD_FILE=/nonexistent"}, want: "CERTCTL_PASSWORD_FILE: the secret cannot be read"},
		"both forms":          {environ: []string{"CERTCTL_PASSWORD_FILE=/x", "CERTCTL_PASSWORD=y"}, want: "unset one of them"},
		"both forms, in file": {file: "password: x\npassword_file: /y", want: "both password and password_file are given"},
		"named file missing":  {environ: []string{"CERTCTL_CONFIG=/nonexistent.yaml"}, want: "the configuration file cannot be read"},
		"unknown flag":        {args: []string{"serve", "--nope"}, want: "unknown flag --nope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.args == nil {
				c.args = []string{"serve"}
			}
			_, _, err := parse(t, c.file, c.environ, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSecretFromFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, _, err := parse(t, "", []string{"CERTCTL_PASSWORD_FILE=" + path}, "check"); err != nil || s.Password != "s3cret" {
		t.Errorf("from the environment: %q %v", s.Password, err)
	}
	if s, _, err := parse(t, "password_file: "+path, nil, "check"); err != nil || s.Password != "s3cret" {
		t.Errorf("from the file: %q %v", s.Password, err)
	}
}

func TestFlagsOfOtherCommandsAreKnown(t *testing.T) {
	t.Parallel()
	if _, _, err := parse(t, "poll: 1m", []string{"CERTCTL_BUS_URL=x"}, "check"); err != nil {
		t.Error(err)
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	_, parsed, err := parse(t, "", []string{"CERTCTL_DATADIR=x", "CERTCTL_SERVER_PORT=tcp://1.2.3.4:1", "OTHER=1"}, "check")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the environment variable CERTCTL_DATADIR is not known and has no effect; did you mean CERTCTL_DATA_DIR?",
		"the environment variable CERTCTL_SERVER_PORT is not known and has no effect",
	}
	if diff := cmp.Diff(want, parsed.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestHelpNamesVariables(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	_, err := Parse(new(settings), []string{"serve", "--help"}, Options{Name: "x", Stdout: &out})
	if !errors.Is(err, ErrHelp) || !strings.Contains(out.String(), "($CERTCTL_BUS_URL)") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("poll: 1m\nbus: {url: x}")
	f.Add("labels: {a: b}\nlisten: [a]")
	f.Add("a: &x [1]\nb: *x")
	f.Fuzz(func(t *testing.T, file string) {
		path := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		parsed, err := Parse(new(settings), []string{"check"}, Options{Name: "x", DefaultFile: path})
		if (parsed == nil) == (err == nil) {
			t.Errorf("parsed %v, error %v", parsed, err)
		}
	})
}
