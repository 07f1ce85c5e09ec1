package certctl_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

func TestReaderFiltersAreTheShortestThatSayTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ asked, want string }{
		{"", ""},
		{"certificate", "certificate"},
		{"certificate.>", "certificate"},
		{"agent.* certificate agent", "agent certificate"},
		{"certificate.certificate_issued certificate.certificate_issued", "certificate.certificate_issued"},
		{"certificate.certificate_issued agent.agent_enrolled certificate", "agent.agent_enrolled certificate"},
		{"rollout channel", "channel rollout"},
	} {
		got, err := certctl.ReaderFilters(strings.Fields(c.asked))
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: %q, %v; want %q", c.asked, got, err, c.want)
		}
	}
}

// A filter that nothing would ever match is a mistake, not a quiet reader.
func TestReaderFiltersThatMatchNothingAreRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", ">", "*", "everything", "certificates", "certificate.issued", "certificate.certificate_issued.>", ".certificate_issued", "certificate_issued"} {
		if got, err := certctl.ReaderFilters([]string{"agent", bad}); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%q: %q, %v; want it refused", bad, got, err)
		}
	}
}

// Every kind of object has its constant, and is one that readers may ask for.
func TestAggregatesAreComplete(t *testing.T) {
	t.Parallel()
	declared := declaredValues(t, "Aggregate")
	if len(declared) < 10 {
		t.Fatalf("only %d kinds were found", len(declared))
	}
	for _, name := range declared {
		if !slices.Contains(certctl.Aggregates, certctl.Aggregate(name)) {
			t.Errorf("%s is not in Aggregates", name)
		}
	}
}
