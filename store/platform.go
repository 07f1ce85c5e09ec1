package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// BootstrapRequest is what the first start of an installation decides.
type BootstrapRequest struct {
	PKIURL      string         // where revocation lists are published; fixed by the first start
	AdminPrefix string         // first characters of the admin's key
	AdminKey    certctl.Digest // hash of the admin's key
}

// Names of what Bootstrap makes besides the profile "server" and the policy
// "default".
const (
	profileClient = "client"
	profilePeer   = "peer"
	adminName     = "admin"
)

// Installation returns which installation this database is, and the PKI's
// address; NotFound before Bootstrap.
func (s *Store) Installation(ctx context.Context) (id certctl.ID, pkiURL string, err error) {
	err = s.pool.QueryRow(ctx, `select id, pki_url from installation`).Scan(&id, &pkiURL)
	if errors.Is(err, pgx.ErrNoRows) {
		return id, "", certctl.Errorf(certctl.NotFound, "this database has not been set up yet").
			WithRemedy("start certctl-server once with the role that does it")
	}
	return id, pkiURL, failed(err, "the installation could not be read")
}

func (t *tx) installation(ctx context.Context) (id certctl.ID, err error) {
	err = t.QueryRow(ctx, `select id from installation`).Scan(&id)
	return id, err
}

// Bootstrap makes what every installation begins with: its identity, the default
// team, the profiles server, client and peer, the policy default, and, while
// there is no admin, the principal admin with the given key. first reports
// whether that key is valid from now on. It may be called at any start of any
// replica; one at a time runs.
func (s *Store) Bootstrap(ctx context.Context, request BootstrapRequest) (first bool, err error) {
	err = s.write(ctx, certctl.SystemActor("bootstrap"), func(t *tx) error {
		if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("bootstrap")); err != nil {
			return err
		}
		if err := t.bootstrap(ctx, request); err != nil {
			return err
		}
		first, err = t.firstAdmin(ctx, request)
		return err
	})
	return first && err == nil, err
}

func (t *tx) bootstrap(ctx context.Context, request BootstrapRequest) error {
	if err := t.put(ctx, `insert into team (id, name) values ($1, $2) on conflict (name) do nothing`,
		certctl.NewID(t.now), certctl.DefaultTeam); err != nil {
		return err
	}
	id := certctl.NewID(t.now)
	tag, err := t.Exec(ctx, `insert into installation (id, pki_url) values ($1, $2) on conflict do nothing`, id, request.PKIURL)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	for _, profile := range firstProfiles() {
		if _, err := profileDocument().create(ctx, t, certctl.DefaultTeam, profile.Name, profileBody(profile)); err != nil {
			return err
		}
	}
	policy := certctl.DefaultRenewalPolicy()
	if _, err := policyDocument().create(ctx, t, certctl.DefaultTeam, policy.Name, policyBody(policy)); err != nil {
		return err
	}
	t.event(certctl.DefaultTeam, certctl.AggregateSystem, id, certctl.EventSystemStarted, map[string]any{"installation": id, "first": true})
	return nil
}

func firstProfiles() []certctl.Profile {
	server := certctl.DefaultProfile()
	client, peer := server, server
	client.Name, client.Description = profileClient, "TLS clients"
	client.EKUs = []certctl.ExtendedKeyUsage{certctl.ClientAuth}
	client.NameRules = certctl.NameRules{DNS: true, URI: true, Email: true}
	peer.Name, peer.Description = profilePeer, "services that are both TLS servers and clients"
	peer.EKUs = []certctl.ExtendedKeyUsage{certctl.ServerAuth, certctl.ClientAuth}
	peer.NameRules = certctl.NameRules{DNS: true, IP: true, URI: true}
	return []certctl.Profile{server, client, peer}
}

// firstAdmin makes the principal admin with the key, unless somebody has the
// role of an admin of the whole platform, or had it once.
func (t *tx) firstAdmin(ctx context.Context, request BootstrapRequest) (bool, error) {
	var exists bool
	err := t.QueryRow(ctx, `select exists (select from principal where team_id is null and 'admin' = any(roles))`).Scan(&exists)
	if err != nil || exists || request.AdminKey.IsZero() {
		return false, err
	}
	admin, err := t.insertAdmin(ctx)
	if err != nil {
		return false, err
	}
	_, err = t.insertKey(ctx, admin, "first", request.AdminPrefix, request.AdminKey, time.Time{})
	return err == nil, err
}

func (t *tx) insertAdmin(ctx context.Context) (certctl.Principal, error) {
	admin := certctl.Principal{ID: certctl.NewID(t.now), Kind: certctl.PrincipalUser, Name: adminName, Roles: []certctl.Role{certctl.RoleAdmin}}
	if err := t.insertPrincipal(ctx, admin.ID, admin); err != nil {
		return admin, err
	}
	t.event(certctl.DefaultTeam, certctl.AggregateAccess, admin.ID, certctl.EventPrincipalCreated, map[string]any{
		"principal": admin.ID, "name": admin.Name, "kind": admin.Kind, "roles": admin.Roles,
	})
	return admin, nil
}

// PlatformKeys returns the platform's own keys of a purpose, in the order in
// which they became valid; those that have ended, too.
func (s *Store) PlatformKeys(ctx context.Context, purpose string) ([]certctl.PlatformKey, error) {
	rows, err := s.pool.Query(ctx, `
		select id, purpose, public, sealed, not_before, not_after from platform_key where purpose = $1 order by not_before, id`, purpose)
	if err != nil {
		return nil, failed(err, "the platform's keys could not be read")
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k certctl.PlatformKey, err error) {
		return k, row.Scan(&k.ID, &k.Purpose, &k.Public, &k.Sealed, &k.NotBefore, &k.NotAfter)
	})
	return keys, failed(err, "the platform's keys could not be read")
}

// AddPlatformKey stores a key. Call it in LockedOnce, after PlatformKeys has
// shown that it is missing.
func (s *Store) AddPlatformKey(ctx context.Context, key certctl.PlatformKey) error {
	return s.write(ctx, certctl.SystemActor("bootstrap"), func(t *tx) error {
		if key.ID.IsZero() {
			key.ID = certctl.NewID(t.now)
		}
		if key.NotBefore.IsZero() {
			key.NotBefore = t.now
		}
		err := t.put(ctx, `
			insert into platform_key (id, purpose, public, sealed, not_before, not_after) values ($1, $2, $3, $4, $5, $6)`,
			key.ID, key.Purpose, key.Public, key.Sealed, key.NotBefore, key.NotAfter)
		return err
	})
}

// NewestTrust returns the trust document of the highest version; NotFound while
// there is none.
func (s *Store) NewestTrust(ctx context.Context) (certctl.Statement, error) {
	var statement certctl.Statement
	err := s.pool.QueryRow(ctx, `select statement from trust_document order by version desc limit 1`).Scan(&statement)
	if errors.Is(err, pgx.ErrNoRows) {
		return statement, certctl.Errorf(certctl.NotFound, "there is no trust document yet")
	}
	return statement, failed(err, "the trust document could not be read")
}

// AddTrust stores a trust document. Its version must be above every earlier one,
// else Conflict: agents take rising versions only.
func (s *Store) AddTrust(ctx context.Context, version int64, statement certctl.Statement) error {
	return s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error {
		if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("trust-document")); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `
			insert into trust_document (version, statement)
			select $1::bigint, $2::jsonb where not exists (select from trust_document where version >= $1)`, version, statement)
		if err == nil && tag.RowsAffected() == 0 {
			return certctl.Errorf(certctl.Conflict, "there is a trust document of version %d or above already", version)
		}
		return err
	})
}

// StreamCreated records when a stream of the bus was made, and returns what was
// recorded before: a stream that is younger than that was lost and must be
// refilled. The zero time means that it was never seen.
func (s *Store) StreamCreated(ctx context.Context, name string, at time.Time) (previous time.Time, err error) {
	err = s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		var before []time.Time
		if err := t.QueryRow(ctx, `select array(select created_at from stream_state where name = $1 for update)`, name).Scan(&before); err != nil {
			return err
		}
		if len(before) > 0 {
			previous = before[0].UTC()
		}
		err := t.put(ctx, `
			insert into stream_state (name, created_at) values ($1, $2)
			on conflict (name) do update set created_at = excluded.created_at`, name, at)
		return err
	})
	return previous, err
}
