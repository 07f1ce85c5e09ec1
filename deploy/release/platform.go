package main

import (
	"fmt"
	"slices"
	"strings"
)

// platform is an operating system and an architecture, as Go names them.
type platform struct{ os, arch string }

// programs are what a release holds, with the systems that each runs on. The agent
// is not for Windows: it keeps keys from others by owner and mode, and reloads
// daemons by signals, and Windows has neither.
var programs = map[string][]string{
	"certctl":        {"linux", "darwin", "freebsd", "windows"},
	"certctl-agent":  {"linux", "darwin", "freebsd"},
	"certctl-proxy":  {"linux"},
	"certctl-server": {"linux"},
}

// all are the platforms of a release.
var all = []platform{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
	{"freebsd", "amd64"}, {"freebsd", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

func (p platform) runs(program string) bool { return slices.Contains(programs[program], p.os) }

// suffix of the program's file.
func (p platform) suffix() string {
	if p.os == "windows" {
		return ".exe"
	}
	return ""
}

func platforms(list string) ([]platform, error) {
	if list == "" {
		return all, nil
	}
	var out []platform
	for name := range strings.SplitSeq(list, ",") {
		system, arch, _ := strings.Cut(name, "/")
		if p := (platform{system, arch}); slices.Contains(all, p) {
			out = append(out, p)
		} else {
			return nil, fmt.Errorf("there is no release for %q", name)
		}
	}
	return out, nil
}

func chosen(list string) ([]string, error) {
	if list == "" {
		list = "certctl,certctl-agent,certctl-proxy,certctl-server"
	}
	out := strings.Split(list, ",")
	for _, name := range out {
		if programs[name] == nil {
			return nil, fmt.Errorf("there is no program %q", name)
		}
	}
	return out, nil
}
