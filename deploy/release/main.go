// Command release makes the files of a release: for each program and platform an
// archive and a list of what is linked into it (CycloneDX), deploy/install-agent.sh,
// further files that are named, a statement of what all of it was made from (in-toto,
// SLSA provenance), the checksums of all of them, and signatures of both.
//
//	go run ./deploy/release --version 1.2.3 --key FILE [--out DIR] [--target linux/amd64,...] [--program certctl,...] [FILE...]
//
// Packages and images hold programs that are built in the same way:
//
//	go run ./deploy/release build --version 1.2.3 --target linux/amd64 --out DIR    # only the programs
//	go run ./deploy/release sbom PROGRAM VERSION                                    # only that list, of a program that is built
//
// Two builds of one commit are the same, byte by byte: paths, times and settings of
// the machine go into nothing. A folder that holds something else than its commit is
// not released.
//
// The signature is OpenSSH's (ssh-keygen -Y sign): whoever administers machines has
// ssh-keygen, keys may lie in an agent or in hardware, and the format names what a
// signature is for, so that one of a commit is none of a release. openssl verifies
// Ed25519 only in versions that not every machine has, and minisign and cosign
// would have to be fetched before anything can be trusted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// release is one that is being made.
type release struct {
	version  string
	out      string
	key      string
	targets  []platform
	programs []string
	extra    []string
	source   source
	linked   []component // into any program
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
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(list)
	}
	only := len(args) > 0 && args[0] == "build"
	if only {
		args = args[1:]
	}
	r, err := parse(args, only)
	if err != nil {
		return err
	}
	if r.source, err = currentSource(ctx); err != nil {
		return err
	}
	if only {
		return r.buildAll(ctx)
	}
	return r.run(ctx)
}

func parse(args []string, unsigned bool) (*release, error) {
	var targets, programs string
	r := &release{}
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "version, without a v")
	flags.StringVar(&r.out, "out", "dist/release", "folder that gets the files; that of a release must not exist")
	flags.StringVar(&r.key, "key", "", "private key of OpenSSH that signs; its public half is beside it with .pub")
	flags.StringVar(&targets, "target", "", "platforms, os/arch, separated by commas; default: all")
	flags.StringVar(&programs, "program", "", "programs, separated by commas; default: all")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	r.extra = flags.Args()
	var err error
	if r.targets, err = platforms(targets); err != nil {
		return nil, err
	}
	if r.programs, err = chosen(programs); err != nil {
		return nil, err
	}
	switch {
	case !versions.MatchString(r.version):
		return nil, fmt.Errorf("--version %q is not of the form 1.2.3 or 1.2.3-rc.1", r.version)
	case unsigned && (r.key != "" || len(r.extra) > 0 || len(r.targets) != 1):
		return nil, errors.New("build makes the programs of one --target, and signs and takes in nothing")
	case !unsigned && r.key == "":
		return nil, errors.New("--key is needed: a release that nobody signed cannot be told from another's")
	}
	return r, nil
}

// buildAll makes nothing but the programs, of whatever is in the folder.
func (r *release) buildAll(ctx context.Context) error {
	on := r.targets[0]
	for _, program := range r.programs {
		if err := r.build(ctx, program, filepath.Join(r.out, program+on.suffix()), on); err != nil {
			return fmt.Errorf("%s for %s/%s: %w", program, on.os, on.arch, err)
		}
	}
	return nil
}

func (r *release) run(ctx context.Context) error {
	if r.source.changed {
		return errors.New("files here differ from the commit, which a release names as its source: commit or remove what git status shows")
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
	if err := r.provenance(ctx); err != nil {
		return err
	}
	if err := r.checksums(); err != nil {
		return err
	}
	return errors.Join(r.sign(ctx, provenanceFile, forProvenance), r.sign(ctx, checksumsFile, forChecksums))
}
