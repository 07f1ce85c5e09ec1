package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The parts of an in-toto statement (v1) with provenance of SLSA (v1) that are
// written.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     provenance `json:"predicate"`
	}
	provenance struct {
		Definition definition `json:"buildDefinition"`
		Run        runDetails `json:"runDetails"`
	}
	definition struct {
		Type         string              `json:"buildType"`
		External     map[string]any      `json:"externalParameters"`
		Internal     map[string][]string `json:"internalParameters"`
		Dependencies []resource          `json:"resolvedDependencies"`
	}
	runDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
)

// Both are headings of docs/release.md, which say what is meant.
const (
	buildType = repository + "/blob/main/docs/release.md#build-type"
	builder   = repository + "/blob/main/docs/release.md#builder"
)

// provenance writes of what, by what and how every file here was made. When it was
// is left out, so that two builds say the same. Nothing is said of further files:
// nobody here has seen them made.
func (r *release) provenance(ctx context.Context) error {
	out := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	sums, err := r.sums()
	if err != nil {
		return err
	}
	for _, of := range sums {
		if slices.ContainsFunc(r.extra, func(file string) bool { return filepath.Base(file) == of.name }) {
			continue
		}
		out.Subject = append(out.Subject, resource{Name: of.name, Digest: map[string]string{"sha256": of.sha256}})
	}
	toolchain, err := toolchain(ctx)
	if err != nil {
		return err
	}
	modules, err := r.modules()
	if err != nil {
		return err
	}
	internal := map[string][]string{"environment": settings}
	for _, program := range r.programs {
		internal["flags of "+program] = r.flags(program)
	}
	var platforms []string
	for _, on := range r.targets {
		platforms = append(platforms, on.os+"/"+on.arch)
	}
	out.Predicate.Definition = definition{
		Type:     buildType,
		External: map[string]any{"source": "git+" + repository, "version": r.version, "programs": r.programs, "platforms": platforms},
		Internal: internal,
		Dependencies: slices.Concat(
			[]resource{{URI: "git+" + repository + "@" + r.source.commit, Digest: map[string]string{"gitCommit": r.source.commit}}}, toolchain, modules),
	}
	out.Predicate.Run.Builder.ID = builder
	out.Predicate.Run.Builder.Version = map[string]string{"go": runtime.Version()}
	return writeJSON(filepath.Join(r.out, provenanceFile), out)
}

// toolchain are the compiler and the linker that were used. Go's own releases of
// them are the same for everybody, and so are these sums.
func toolchain(ctx context.Context) ([]resource, error) {
	out := []resource{{Name: "go", URI: "pkg:golang/std@" + strings.TrimPrefix(runtime.Version(), "go")}}
	for _, tool := range []string{"compile", "link"} {
		path, err := exec.CommandContext(ctx, "go", "tool", "-n", tool).Output()
		if err != nil {
			return nil, fmt.Errorf("go does not say where %s is: %w", tool, err)
		}
		content, err := os.ReadFile(strings.TrimSpace(string(path)))
		if err != nil {
			return nil, err
		}
		out = append(out, resource{Name: tool + " for " + runtime.GOOS + "/" + runtime.GOARCH, Digest: map[string]string{"sha256": sum(content)}})
	}
	return out, nil
}

// modules are those linked into any program, each with the sum that go.sum has:
// hexadecimal and without h1:, as in-toto spells it.
func (r *release) modules() ([]resource, error) {
	seen := map[string]resource{}
	for _, c := range r.linked {
		for _, p := range c.Properties {
			if p.Name != goSum {
				continue
			}
			hash, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Value, "h1:"))
			if err != nil {
				return nil, fmt.Errorf("the sum of %s: %w", c.PURL, err)
			}
			seen[c.PURL] = resource{URI: c.PURL, Digest: map[string]string{"dirHash": hex.EncodeToString(hash)}}
		}
	}
	var out []resource
	for _, module := range seen {
		out = append(out, module)
	}
	slices.SortFunc(out, func(a, b resource) int { return strings.Compare(a.URI, b.URI) })
	return out, nil
}
