package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// versions are what may stand in file names, tags and packages alike.
var versions = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

// parse reads the flags of a command; "" makes a release.
func parse(command string, args []string) (*release, error) {
	var targets, programs string
	r := &release{}
	flags := flag.NewFlagSet("release "+command, flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "version, without a v")
	flags.StringVar(&r.out, "out", "dist/release", "folder that gets the files; it must not exist, but for build")
	if command == "" {
		flags.StringVar(&r.key, "key", "", "private key of OpenSSH that signs; its public half is beside it with .pub")
	}
	flags.StringVar(&targets, "target", "", "platforms, os/arch, separated by commas; default: all that there is such a thing for")
	flags.StringVar(&programs, "program", "", "programs, separated by commas; default: all")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	r.extra = flags.Args()
	if command == "packages" && targets == "" {
		targets = "linux/amd64,linux/arm64"
	}
	if command == "packages" && programs == "" {
		programs = strings.Join(packed, ",")
	}
	var err error
	if r.targets, err = platforms(targets); err != nil {
		return nil, err
	}
	if r.programs, err = chosen(programs); err != nil {
		return nil, err
	}
	return r, r.check(command)
}

// check refuses what cannot be meant.
func (r *release) check(command string) error {
	switch {
	case !versions.MatchString(r.version):
		return fmt.Errorf("--version %q is not of the form 1.2.3 or 1.2.3-rc.1", r.version)
	case command != "" && len(r.extra) > 0:
		return fmt.Errorf("%s takes no files: %v", command, r.extra)
	case command == "build" && len(r.targets) != 1:
		return errors.New("build makes the programs of one --target")
	case command == "" && r.key == "":
		return errors.New("--key is needed: a release that nobody signed cannot be told from another's")
	}
	for _, file := range r.extra {
		if name := filepath.Base(file); isPackage(name) && !strings.Contains(name, strings.ReplaceAll(r.version, "-", "~")) {
			return fmt.Errorf("%s is not of version %s", file, r.version)
		}
	}
	return nil
}

func isPackage(name string) bool {
	return strings.HasSuffix(name, ".deb") || strings.HasSuffix(name, ".rpm")
}
