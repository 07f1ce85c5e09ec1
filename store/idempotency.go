package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// earlier is what the first request with an idempotency key made, and when; its
// id is absent when there was none.
type earlier struct {
	id certctl.ID
	at time.Time
}

// once records that a request is answered with the object, unless the actor has
// used the idempotency key before: then it returns what came of that. Another
// request under the same key is refused (certctl.ErrIdempotencyReuse). Two
// requests at the same time wait for each other here.
func (t *tx) once(ctx context.Context, idem certctl.Idempotency, object certctl.ID) (earlier, error) {
	if idem.Key == "" {
		return earlier{}, nil
	}
	principal := t.actor.Principal.ID
	if principal.IsZero() {
		return earlier{}, certctl.Errorf(certctl.Invalid, "only a principal can use an idempotency key")
	}
	tag, err := t.Exec(ctx, `
		insert into idempotency (principal_id, key, request_hash, object_id) values ($1, $2, $3, $4)
		on conflict (principal_id, key) do nothing`, principal, idem.Key, idem.Hash, object)
	if err != nil || tag.RowsAffected() == 1 {
		return earlier{}, err
	}
	var first earlier
	var hash certctl.Digest
	err = t.QueryRow(ctx, `select object_id, created_at, request_hash from idempotency where principal_id = $1 and key = $2`,
		principal, idem.Key).Scan(&first.id, &first.at, &hash)
	if err == nil && hash != idem.Hash {
		err = certctl.Wrap(certctl.Invalid, certctl.ErrIdempotencyReuse, "the idempotency key %q was used for another request",
			certctl.Clip(idem.Key, 80)).WithRemedy("draw a new key for each new request")
	}
	return first, err
}
