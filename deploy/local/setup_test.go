package local_test

import (
	"bytes"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

func TestInstallDoesNothingWhenNothingIsMissing(t *testing.T) {
	t.Parallel()
	var output bytes.Buffer
	present := []local.Requirement{{Package: "anything", Present: func() bool { return true }}}
	if err := local.Install(t.Context(), present, &output); err != nil {
		t.Fatal(err)
	}
	if output.Len() > 0 {
		t.Errorf("it says %q", output.String())
	}
}

func TestRequirementsOfTheTestsAreMetHere(t *testing.T) {
	t.Parallel()
	for _, requirement := range local.TestRequirements() {
		if !requirement.Present() {
			t.Errorf("%s is missing: run the tests through ./task test, which installs it", requirement.Package)
		}
	}
}
