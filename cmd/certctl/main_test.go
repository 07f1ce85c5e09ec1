package main

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/cmd/internal/edition"
)

// `certctl version` is what people type first, though versions are also a noun.
func TestVersion(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"version", "about"} {
		var out, errs strings.Builder
		if code := run(t.Context(), []string{command}, &out, &errs); code != exitOK || out.String() != edition.Line("certctl")+"\n" {
			t.Errorf("%s: exit code %d, %s%s", command, code, &out, &errs)
		}
	}
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"version", "get"}, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "name") {
		t.Errorf("the noun without a name: exit code %d, %s%s", code, &out, &errs)
	}
}
