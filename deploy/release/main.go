// Command release makes the files of a release: for each program and platform an
// archive and a list of what is linked into it (CycloneDX), deploy/install-agent.sh,
// further files that are named, the checksums of all of them, and a signature of
// the checksums.
//
//	go run ./deploy/release sbom PROGRAM VERSION        # only that list, of a program that is built
//	go run ./deploy/release --version 1.2.3 --key FILE [--out DIR] [--target linux/amd64,...] [--program certctl,...] [FILE...]
//
// Two builds of one commit are the same, byte by byte: paths and times of the
// machine go into nothing.
//
// The signature is OpenSSH's (ssh-keygen -Y sign): whoever administers machines has
// ssh-keygen, keys may lie in an agent or in hardware, and the format names what a
// signature is for, so that one of a commit is none of a release. openssl verifies
// Ed25519 only in versions that not every machine has, and minisign and cosign
// would have to be fetched before anything can be trusted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// release is one that is being made.
type release struct {
	version  string
	out      string
	key      string
	targets  []platform
	programs []string
	extra    []string
	time     time.Time // of every file in an archive
}

// versions are what may stand in file names, tags and packages alike.
var versions = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "sbom" {
		list, err := billOfMaterials(args[1], filepath.Base(args[1]), args[2])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(list)
		return err
	}
	r, err := parse(args)
	if err != nil {
		return err
	}
	return r.run(ctx)
}

func parse(args []string) (*release, error) {
	var targets, programs string
	r := &release{}
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "version, without a v")
	flags.StringVar(&r.out, "out", "dist/release", "folder that gets the files; it must not exist")
	flags.StringVar(&r.key, "key", "", "private key of OpenSSH that signs; its public half is beside it with .pub")
	flags.StringVar(&targets, "target", "", "platforms, os/arch, separated by commas; default: all")
	flags.StringVar(&programs, "program", "", "programs, separated by commas; default: all")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	r.extra = flags.Args()
	switch {
	case !versions.MatchString(r.version):
		return nil, fmt.Errorf("--version %q is not of the form 1.2.3 or 1.2.3-rc.1", r.version)
	case r.key == "":
		return nil, errors.New("--key is needed: a release that nobody signed cannot be told from another's")
	}
	var err error
	if r.targets, err = platforms(targets); err != nil {
		return nil, err
	}
	r.programs, err = chosen(programs)
	return r, err
}

func (r *release) run(ctx context.Context) error {
	var err error
	if r.time, err = commitTime(ctx); err != nil {
		return err
	}
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	for _, on := range r.targets {
		for _, program := range r.programs {
			if !on.runs(program) {
				continue
			}
			fmt.Println(strings.Join([]string{program, r.version, on.os, on.arch}, " "))
			if err := r.program(ctx, program, on); err != nil {
				return fmt.Errorf("%s for %s/%s: %w", program, on.os, on.arch, err)
			}
		}
	}
	if err := r.others(); err != nil {
		return err
	}
	if err := r.checksums(); err != nil {
		return err
	}
	return r.sign(ctx)
}
