package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var variable = regexp.MustCompile(`CERTCTL_[A-Z0-9_]+`)

// Every setting that a program knows stands in docs/configuration.md, and no
// other does.
func TestEverySettingIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, args := range [][]string{
		{"certctl-server", "--help"}, {"certctl-agent", "--help"}, {"certctl-agent", "enroll", "--help"}, {"certctl", "--help"},
	} {
		output, err := exec.CommandContext(t.Context(), filepath.Join(binaries, args[0]), args[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range variable.FindAllString(strings.ReplaceAll(string(output), "\n", " "), -1) {
			known[name] = true
		}
	}
	for name := range known {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, name := range variable.FindAllString(string(text), -1) {
		if base := strings.TrimSuffix(name, "_FILE"); !known[name] && !known[base] {
			t.Errorf("%s is documented and no program knows it", name)
		}
	}
}
