package store

import (
	"context"

	"github.com/certctl/certctl"
)

// AppendEvent writes an event as a use case would, for tests of what follows from
// events whose causes would take long to bring about.
func (s *Store) AppendEvent(ctx context.Context, team string, aggregate certctl.Aggregate, object certctl.ID, name certctl.EventName) error {
	return s.write(ctx, certctl.SystemActor("test"), func(t *tx) error {
		t.event(team, aggregate, object, name, map[string]any{"name": "it"})
		return nil
	})
}

// MigrateWith is Migrate of a release with other migrations.
var MigrateWith = migrate
