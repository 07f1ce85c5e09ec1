package certctl_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest    = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	declaredTest = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	scenarioName = regexp.MustCompile(`\{Name: "([a-z-]+)"`)
)

// A promise whose test is gone would still look tested.
func TestTheTestsOfPromisesExist(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	walk(t, "_test.go", func(_ string, content []byte) {
		for _, match := range declaredTest.FindAllSubmatch(content, -1) {
			declared[string(match[1])] = true
		}
	})
	document, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllSubmatch(document, -1)
	if len(named) == 0 {
		t.Fatal("docs/reliability.md names no tests")
	}
	for _, match := range named {
		if !declared[string(match[1])] {
			t.Errorf("docs/reliability.md names %s, which does not exist", match[1])
		}
	}
}

// Each scenario of the fault suite stands beside the promise that it tests.
func TestTheScenariosAreDocumented(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("deploy/test/chaos/scenario.go")
	if err != nil {
		t.Fatal(err)
	}
	names := scenarioName.FindAllSubmatch(source, -1)
	if len(names) == 0 {
		t.Fatal("deploy/test/chaos/scenario.go lists no scenarios")
	}
	for _, match := range names {
		if !strings.Contains(string(document), "`"+string(match[1])+"`") {
			t.Errorf("docs/reliability.md does not speak of the scenario %s", match[1])
		}
	}
}
