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

// shownTest is the newest test of a target as the actor may see it: of steps that
// name a certificate which he may not read, its place or one of its names, only
// the state is left. The target may serve several teams.
func (t *tx) shownTest(ctx context.Context, target certctl.ID) (certctl.TargetTest, error) {
	test, err := t.targetTest(ctx, target)
	if err != nil || len(test.Steps) == 0 {
		return test, err
	}
	hidden, err := t.hiddenWords(ctx, test)
	for i, step := range test.Steps {
		said := strings.Join([]string{step.Subject, step.Message, step.Remedy}, "\n")
		if slices.ContainsFunc(hidden, func(word string) bool { return strings.Contains(said, word) }) {
			test.Steps[i] = certctl.TestStep{Step: step.Step, State: step.State, Message: hiddenStep}
		}
	}
	return test, err
}

// hiddenWords are those that steps of a test may have of certificates which the
// actor may not read: of all that were bound since it was asked for.
func (t *tx) hiddenWords(ctx context.Context, test certctl.TargetTest) ([]string, error) {
	rows, err := t.Query(ctx, `
		select c.id, c.name, b.place, c.dns, c.ips, c.uris, c.emails from binding b join certificate c on c.id = b.certificate_id
		where b.target_id = $1 and (b.unbound_at is null or b.unbound_at >= $2)`, test.Target, test.RequestedAt)
	if err != nil {
		return nil, err
	}
	words, refs := map[string][]string{}, map[string]bool{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var id certctl.ID
		var p certctl.TestPlace
		err := row.Scan(&id, &p.Certificate, &p.Place, &p.Names.DNS, &p.Names.IP, &p.Names.URI, &p.Names.Email)
		refs[id.String()] = true
		for _, word := range append(p.Names.Strings(), p.Certificate, p.Place) {
			// A wildcard is probed by a name below it.
			words[id.String()] = append(words[id.String()], strings.TrimPrefix(word, "*"))
		}
		return struct{}{}, err
	})
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	known, err := t.find(ctx, reading, certctl.ObjectCertificate, t.scope(""), sortedRefs(refs)...)
	var hidden []string
	for id := range refs {
		if f, ok := known[id]; !ok || t.may(certctl.VerbRead, certctl.ObjectCertificate, f) != nil {
			hidden = append(hidden, words[id]...)
		}
	}
	return hidden, err
}
