package edition

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestRecorded(t *testing.T) {
	t.Parallel()
	revision := []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}}
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3":             {Main: debug.Module{Version: "v1.2.3"}, Settings: revision},
		"devel-0123456789ab": {Main: debug.Module{Version: "(devel)"}, Settings: revision},
		"devel":              {Main: debug.Module{Version: "(devel)"}},
	} {
		if got := recorded(&info); got != want {
			t.Errorf("%+v: %s, want %s", info, got, want)
		}
	}
}

// What the linker sets is proven with real programs, in deploy/test/packages.
func TestLine(t *testing.T) {
	t.Parallel()
	if words := strings.Fields(Line("certctl")); words[0] != "certctl" || words[1] != Version() || strings.Contains(Line("certctl"), "commit") {
		t.Error(words)
	}
	for commit, want := range map[string]string{
		"0123456789abcdef": "0123456789ab", "0123456789abcdef-changed": "0123456789ab-changed", "": "", "abc": "abc",
	} {
		if got := short(commit); got != want {
			t.Errorf("%s: %s, want %s", commit, got, want)
		}
	}
}
