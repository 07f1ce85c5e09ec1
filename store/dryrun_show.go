package store

import (
	"context"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// hiddenStep stands for what a step says of somebody else's certificate.
const hiddenStep = "about a certificate that you may not read"

// shownTest is the newest test of a target as the actor may see it: of steps about
// a certificate which he may not read only the state is left. The target may serve
// several teams. Steps that name no binding, as those of the daemon's check and all
// of older agents, are told by what they say: such a certificate's name, its place or
// one of its names.
func (t *tx) shownTest(ctx context.Context, target certctl.ID) (certctl.TargetTest, error) {
	test, err := t.targetTest(ctx, target)
	if err != nil || len(test.Steps) == 0 {
		return test, err
	}
	bound, err := t.testedBindings(ctx, test)
	for i, step := range test.Steps {
		if hides(bound, step) {
			test.Steps[i] = certctl.TestStep{Step: step.Step, State: step.State, Message: hiddenStep}
		}
	}
	return test, err
}

// testedBinding is one of a target's.
type testedBinding struct {
	certificate certctl.ID
	words       []string // that steps about it may have
	hidden      bool
}

// hides reports whether a step is about a binding that is hidden.
func hides(bound map[certctl.ID]*testedBinding, step certctl.TestStep) bool {
	if b, known := bound[step.Binding]; known {
		return b.hidden
	}
	said := strings.Join([]string{step.Subject, step.Message, step.Remedy}, "\n")
	for _, b := range bound {
		if b.hidden && slices.ContainsFunc(b.words, func(word string) bool { return strings.Contains(said, word) }) {
			return true
		}
	}
	return false
}

// testedBindings are those that steps of a test may be about: all that were bound
// since it was asked for. Those whose certificate the actor may not read are hidden.
func (t *tx) testedBindings(ctx context.Context, test certctl.TargetTest) (map[certctl.ID]*testedBinding, error) {
	rows, err := t.Query(ctx, `
		select b.id, c.id, c.name, b.place, c.dns, c.ips, c.uris, c.emails from binding b join certificate c on c.id = b.certificate_id
		where b.target_id = $1 and (b.unbound_at is null or b.unbound_at >= $2)`, test.Target, test.RequestedAt)
	if err != nil {
		return nil, err
	}
	bound, refs := map[certctl.ID]*testedBinding{}, map[string]bool{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var b testedBinding
		var p certctl.TestPlace
		err := row.Scan(&p.Binding, &b.certificate, &p.Certificate, &p.Place, &p.Names.DNS, &p.Names.IP, &p.Names.URI, &p.Names.Email)
		for _, word := range append(p.Names.Strings(), p.Certificate, p.Place) {
			// A wildcard is probed by a name below it.
			b.words = append(b.words, strings.TrimPrefix(word, "*"))
		}
		bound[p.Binding], refs[b.certificate.String()] = &b, true
		return struct{}{}, err
	})
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	known, err := t.find(ctx, reading, certctl.ObjectCertificate, t.scope(""), sortedRefs(refs)...)
	for _, b := range bound {
		f, ok := known[b.certificate.String()]
		b.hidden = !ok || t.may(certctl.VerbRead, certctl.ObjectCertificate, f) != nil
	}
	return bound, err
}
