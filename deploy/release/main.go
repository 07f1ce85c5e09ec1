// Command release makes the files of a release: for each program and platform an
// archive and a list of what is linked into it (CycloneDX), deploy/install-agent.sh,
// further files that are named, a statement of what all but those was made from
// (in-toto, SLSA provenance), the checksums of all of them, and signatures of both.
//
//	go run ./deploy/release --version 1.2.3 --key FILE [--out DIR] [--target linux/amd64,...] [--program certctl,...] [FILE...]
//
// Packages and images hold programs that are built in the same way:
//
//	go run ./deploy/release packages --version 1.2.3 --out DIR                      # Debian and RPM
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
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	command := ""
	if len(args) > 0 && (args[0] == "build" || args[0] == "packages") {
		command, args = args[0], args[1:]
	}
	r, err := parse(command, args)
	if err != nil {
		return err
	}
	if r.source, err = currentSource(ctx); err != nil {
		return err
	}
	switch command {
	case "build":
		return r.buildAll(ctx)
	case "packages":
		return r.packages(ctx)
	}
	return r.run(ctx)
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
