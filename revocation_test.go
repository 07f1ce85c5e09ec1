package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestReplacementByReason(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason certctl.RevocationReason
		wanted certctl.Replacement
		want   certctl.Replacement
		code   certctl.Code
	}{
		"a lost key is out of use now":       {reason: certctl.ReasonKeyCompromise, want: certctl.ReplaceAfter},
		"nobody notices a better leaf":       {reason: certctl.ReasonSuperseded, want: certctl.ReplaceBefore},
		"the rest is only revoked":           {reason: certctl.ReasonCessationOfOperation, want: certctl.ReplaceNo},
		"as asked":                           {reason: certctl.ReasonSuperseded, wanted: certctl.ReplaceAfter, want: certctl.ReplaceAfter},
		"a lost key is never kept":           {reason: certctl.ReasonKeyCompromise, wanted: certctl.ReplaceBefore, code: certctl.Invalid},
		"there is no such time":              {reason: certctl.ReasonSuperseded, wanted: "later", code: certctl.Invalid},
		"a lost key may be replaced by hand": {reason: certctl.ReasonKeyCompromise, wanted: certctl.ReplaceNo, want: certctl.ReplaceNo},
	} {
		got, err := certctl.RevokeRequest{Reason: test.reason, Replace: test.wanted}.Replacement()
		if got != test.want || certctl.ErrorCode(err) != test.code {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestARevocationWaitsForItsReplacement(t *testing.T) {
	t.Parallel()
	now := epoch.Add(time.Hour)
	for name, test := range map[string]struct {
		facts certctl.ReplacementFacts
		want  certctl.ReplacementStep
		again time.Duration // 0: never
	}{
		"ordered":                     {certctl.ReplacementFacts{Open: true, Bound: 2}, certctl.ReplacementWait, 6 * time.Minute},
		"issued, on its way":          {certctl.ReplacementFacts{Replaced: true, Bound: 2, Verified: 1}, certctl.ReplacementWait, 6 * time.Minute},
		"verified everywhere":         {certctl.ReplacementFacts{Replaced: true, Bound: 2, Verified: 2}, certctl.ReplacementRevoke, 0},
		"bound nowhere":               {certctl.ReplacementFacts{Replaced: true}, certctl.ReplacementRevoke, 0},
		"nobody holds it any more":    {certctl.ReplacementFacts{Gone: true, Bound: 1}, certctl.ReplacementRevoke, 0},
		"ended by itself":             {certctl.ReplacementFacts{Expired: true, Replaced: true}, certctl.ReplacementDrop, 0},
		"refused an hour ago":         {certctl.ReplacementFacts{Bound: 1, Ordered: epoch}, certctl.ReplacementWait, 23 * time.Hour},
		"refused yesterday":           {certctl.ReplacementFacts{Bound: 1, Ordered: epoch.Add(-certctl.Day)}, certctl.ReplacementOrder, 6 * time.Minute},
		"a rollout orders in its way": {certctl.ReplacementFacts{Bound: 1, Paced: true, Ordered: epoch.Add(-certctl.Day)}, certctl.ReplacementWait, 6 * time.Minute},
	} {
		test.facts.Since = epoch
		step, at := test.facts.Next(now)
		if step != test.want || (test.again == 0) != at.IsZero() || test.again != 0 && at.Sub(now) != test.again {
			t.Errorf("%s: %s, again at %s", name, step, at)
		}
	}
}
