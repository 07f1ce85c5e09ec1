package acme

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// record looks at the record by which a name is proven for as long as it stands.
// What it must say is known once a worker has asked the CA for the account.
func (f *flight) record(ctx context.Context, name string) certctl.PreflightCheck {
	check := certctl.PreflightCheck{Name: name, Check: "record"}
	base, wildcard := strings.CutPrefix(name, "*.")
	i := slices.IndexFunc(f.Records, func(r certctl.ValidationRecord) bool { return r.Name == base && r.Issuer.ID == f.issuer })
	if i < 0 {
		check.Message = "what is to be published at " + persistLabel + base + " is not known yet"
		check.Remedy = "order it: the order says so within seconds, see certctl certificates explain"
		return check
	}
	r := f.Records[i]
	found, err := f.asker().FindRecord(ctx, r)
	switch {
	case err != nil:
		check.Message = r.Record + " cannot be looked up: " + certctl.ErrorMessage(err)
		check.Remedy = "its zone must exist and its servers answer"
	case wildcard && !r.Terms.Wildcard:
		check.Message = "what is known of " + r.Record + " is from before the wildcard was added"
		check.Remedy = "order it: the order says what is to be published"
	case found.State != certctl.RecordPublished:
		check.Message = r.Record + " does not prove it: " + found.Message
		check.Remedy = "publish " + r.Record + `. TXT "` + r.Value + `"`
	default:
		check.OK, check.Message = true, r.Record+" proves it"
		if !found.Until.IsZero() {
			check.Message += " until " + found.Until.Format(time.RFC3339)
		}
	}
	return check
}
