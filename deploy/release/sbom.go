package main

import (
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
	"strings"
)

// The parts of CycloneDX that are written.
type (
	bom struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// goSum is the property that holds a module's line of go.sum.
const goSum = "go.sum"

// billOfMaterials lists what the linker put into the program, in CycloneDX. The
// program itself says so: nothing that go.mod names and the program lacks is in the
// list, and no tool can forget what is there. Without a serial number and a time,
// two builds have the same one.
func billOfMaterials(path, program, version string) (*bom, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("what is linked into the program cannot be read: %w", err)
	}
	self := golang("application", info.Main.Path, version)
	self.Name, self.PURL = program, self.PURL+"#cmd/"+program
	self.Ref = self.PURL
	out := &bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{self}}
	out.Components = append(out.Components, golang("library", "std", strings.TrimPrefix(info.GoVersion, "go")))
	for _, module := range info.Deps {
		out.Components = append(out.Components, library(module))
	}
	return out, nil
}

func library(module *debug.Module) component {
	if module.Replace != nil {
		module = module.Replace
	}
	c := golang("library", module.Path, module.Version)
	if module.Sum != "" {
		c.Properties = []property{{goSum, module.Sum}}
	}
	return c
}

func golang(kind, path, version string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
}
