// Package edition says which release of certctl a program is. The linker sets it,
// in one place for all programs; without it, what the Go tool recorded is told.
package edition

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Set by the linker; deploy/release names them.
var (
	version string
	commit  string
)

// Version is 1.2.3 in a release, and otherwise what the Go tool recorded.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return recorded(info)
}

// recorded is the module's version, or the commit when it has none.
func recorded(info *debug.BuildInfo) string {
	text := strings.Trim(info.Main.Version, "()")
	if text != "devel" && text != "" {
		return text
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + short(setting.Value)
		}
	}
	return "devel"
}

// Line is what the command version of a program prints: the version is the
// second word, for scripts.
func Line(program string) string {
	source := ""
	if commit != "" {
		source = "commit " + short(commit) + ", "
	}
	return fmt.Sprintf("%s %s (%s%s %s/%s)", program, Version(), source, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// short keeps what tells a commit from others, and that there were changes.
func short(commit string) string {
	hash, changed, _ := strings.Cut(commit, "-")
	if changed != "" {
		changed = "-" + changed
	}
	return hash[:min(len(hash), 12)] + changed
}
