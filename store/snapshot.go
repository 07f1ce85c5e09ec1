package store

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// An order keeps the profile that it was made with, since what is asked does not
// change under way. Thousands are made with the same one: it is stored once, and
// orders name it by the digest of its text.

// storeSnapshots stores encoded profiles that are not stored yet, and returns the
// digests by which orders name them.
func (t *tx) storeSnapshots(ctx context.Context, encoded ...string) ([]certctl.Digest, error) {
	digests := make([]certctl.Digest, len(encoded))
	known := make(map[string]certctl.Digest, 1)
	var texts []string
	var keys []certctl.Digest
	for i, text := range encoded {
		digest, ok := known[text]
		if !ok {
			digest = certctl.DigestOf([]byte(text))
			known[text] = digest
			texts, keys = append(texts, text), append(keys, digest)
		}
		digests[i] = digest
	}
	return digests, t.put(ctx, `
		insert into profile_snapshot (digest, body) select digest, body::jsonb from unnest($1::bytea[], $2::text[]) as new(digest, body)
		order by digest on conflict do nothing`, keys, texts)
}

// snapshots keeps profiles that were read. What a digest names never changes.
type snapshots struct {
	mu       sync.Mutex
	profiles map[certctl.Digest]certctl.Profile
}

// snapshotsKept bounds how many a process remembers; beyond it, all are forgotten.
const snapshotsKept = 1024

func (s *snapshots) get(digest certctl.Digest) (certctl.Profile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	profile, ok := s.profiles[digest]
	return profile, ok
}

func (s *snapshots) put(digest certctl.Digest, profile certctl.Profile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.profiles == nil || len(s.profiles) >= snapshotsKept {
		s.profiles = make(map[certctl.Digest]certctl.Profile)
	}
	s.profiles[digest] = profile
}

// orderProfile is what a row of cert_order says of its profile: the columns profile,
// of orders from before there were snapshots, and profile_digest.
type orderProfile struct {
	inline []byte
	digest certctl.Digest
}

// profiles returns the profiles of some orders, in their order. What their members
// refer to is shared: it is not to be changed.
func (t *tx) profiles(ctx context.Context, of []orderProfile) ([]certctl.Profile, error) {
	out := make([]certctl.Profile, len(of))
	missing := map[certctl.Digest]bool{}
	for i, p := range of {
		if p.inline != nil {
			if err := json.Unmarshal(p.inline, &out[i]); err != nil {
				return nil, err
			}
			continue
		}
		known, ok := t.kept.profiles.get(p.digest)
		if !ok {
			missing[p.digest] = true
		}
		out[i] = known
	}
	if len(missing) == 0 {
		return out, nil
	}
	read, err := t.readSnapshots(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i, p := range of {
		if missing[p.digest] && p.inline == nil {
			profile, ok := read[p.digest]
			if !ok {
				return nil, certctl.Errorf(certctl.Internal, "the profile %s of an order is not stored", p.digest)
			}
			out[i] = profile
		}
	}
	return out, nil
}

func (t *tx) readSnapshots(ctx context.Context, digests map[certctl.Digest]bool) (map[certctl.Digest]certctl.Profile, error) {
	wanted := make([]certctl.Digest, 0, len(digests))
	for digest := range digests {
		wanted = append(wanted, digest)
	}
	rows, err := t.Query(ctx, `select digest, body from profile_snapshot where digest = any($1)`, wanted)
	if err != nil {
		return nil, err
	}
	read := make(map[certctl.Digest]certctl.Profile, len(wanted))
	var digest certctl.Digest
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&digest, &body}, func() error {
		var profile certctl.Profile
		if err := json.Unmarshal(body, &profile); err != nil {
			return err
		}
		read[digest] = profile
		t.kept.profiles.put(digest, profile)
		return nil
	})
	return read, err
}
