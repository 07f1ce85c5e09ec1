package store

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"path"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// joining is one machine on its way to become an agent.
type joining struct {
	certctl.Enrolment
	token     certctl.JoinToken
	keysHash  certctl.Digest
	remote    netip.Addr
	statement func(agent certctl.ID, team string) (certctl.Statement, error)
}

// Enroll makes an agent of a machine that holds a join token. statement signs
// the agent's id and keys; it must not wait for anything. The same token and
// keys get the same agent again, so that a lost answer costs nothing.
//
// A name that an agent has is refused unless the token may replace it: then that
// agent, with its targets, goes on with the new keys, the old ones are retired,
// and its certificates are ordered anew, since their keys are gone. Keys that
// were ever those of an agent are refused for ever.
func (s *Store) Enroll(ctx context.Context, token certctl.Digest, enrolment certctl.Enrolment, remote netip.Addr,
	statement func(agent certctl.ID, team string) (certctl.Statement, error),
) (certctl.Agent, error) {
	var agent certctl.Agent
	j := &joining{Enrolment: enrolment, remote: remote, statement: statement, keysHash: keysHash(enrolment.Keys)}
	err := s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error {
		if err := t.lockToken(ctx, j, token); err != nil {
			return err
		}
		// From here on the token acts; what it may is checked against the token.
		t.actor = certctl.Actor{Principal: certctl.Principal{Kind: certctl.PrincipalProtocol, Name: "join-token/" + j.token.Prefix,
			Roles: []certctl.Role{certctl.RoleAdmin}}}
		id, err := t.enrolledBefore(ctx, j)
		if err == nil && id.IsZero() {
			id, err = t.enroll(ctx, j)
		}
		if err != nil {
			return err
		}
		agents, err := t.agents(ctx, []certctl.ID{id})
		if err == nil {
			agent = agents[0]
		}
		return err
	})
	return agent, err
}

func keysHash(keys certctl.AgentKeys) certctl.Digest {
	return certctl.DigestOf(slices.Concat([]byte(keys.Bus), []byte{0}, keys.Signing, keys.Sealing))
}

// lockToken finds the token and keeps others from using it meanwhile.
func (t *tx) lockToken(ctx context.Context, j *joining, hash certctl.Digest) error {
	rows, err := t.Query(ctx, `
		select `+joinTokenColumns+` from join_token k join team on team.id = k.team_id where k.hash = $1 for update of k`, hash)
	if err != nil {
		return err
	}
	j.token, err = pgx.CollectExactlyOneRow(rows, scanJoinToken)
	if errors.Is(err, pgx.ErrNoRows) {
		return certctl.Errorf(certctl.Denied, "this join token is not known here").
			WithRemedy("make one with: certctl join-tokens create")
	}
	return err
}

// enrolledBefore returns the agent that the same token and keys have made.
func (t *tx) enrolledBefore(ctx context.Context, j *joining) (certctl.ID, error) {
	var id certctl.ID
	var state certctl.AgentState
	var current bool
	err := t.QueryRow(ctx, `
		select a.id, a.state, exists (select from agent_key k where k.agent_id = a.id and k.kind = 'bus' and k.public = $3 and k.until is null)
		from join_use u join agent a on a.id = u.agent_id where u.token_id = $1 and u.keys_hash = $2`,
		j.token.ID, j.keysHash, []byte(j.Keys.Bus)).Scan(&id, &state, &current)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return certctl.NoID, nil
	case err == nil && (state == certctl.AgentRetired || !current):
		return certctl.NoID, retiredKeys()
	}
	return id, err
}

func retiredKeys() error {
	return certctl.Errorf(certctl.Gone, "these keys were retired and are refused for ever").
		WithRemedy("remove the agent's state directory, so that it makes new keys, and enrol it anew")
}

func (t *tx) enroll(ctx context.Context, j *joining) (certctl.ID, error) {
	if err := j.check(t); err != nil {
		return certctl.NoID, err
	}
	if err := t.newKeys(ctx, j.Keys); err != nil {
		return certctl.NoID, err
	}
	existing, err := t.takenOver(ctx, j)
	if err != nil {
		return certctl.NoID, err
	}
	id := certctl.NewID(t.now)
	step := t.insertAgent
	if !existing.IsZero() {
		id, step = existing, t.replaceAgent
	}
	word, err := j.statement(id, j.token.Team)
	if err != nil {
		return id, err
	}
	if err := step(ctx, id, j, word); err != nil {
		return id, nameTaken(err, certctl.ObjectAgent, j.Name)
	}
	if err := t.insertKeys(ctx, id, j.Keys); err != nil {
		return id, err
	}
	if err := t.put(ctx, `update join_token set uses_left = uses_left - 1 where id = $1`, j.token.ID); err != nil {
		return id, err
	}
	_, err = t.Exec(ctx, `insert into join_use (token_id, keys_hash, agent_id) values ($1, $2, $3)`, j.token.ID, j.keysHash, id)
	t.event(j.token.Team, certctl.AggregateAgent, id, certctl.EventAgentEnrolled, map[string]any{
		"agent": id, "name": j.Name, "token": j.token.ID, "approved": j.token.Approve, "replaced": !existing.IsZero(),
	})
	return id, err
}

// check holds the machine against what the token allows.
func (j *joining) check(t *tx) error {
	switch {
	case !j.token.RevokedAt.IsZero():
		return certctl.Errorf(certctl.Denied, "this join token was revoked")
	case !j.token.ExpiresAt.After(t.now):
		return certctl.Errorf(certctl.Denied, "this join token has expired").WithRemedy("make a new one with: certctl join-tokens create")
	case j.token.UsesLeft < 1:
		return certctl.Errorf(certctl.Denied, "this join token is used up").WithRemedy("make a new one with: certctl join-tokens create")
	}
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(j.Name))
	bad.AddError("", certctl.CheckLabels(j.Labels))
	bad.AddError("", j.Keys.Check())
	if j.MachineID == "" || len(j.MachineID) > 200 {
		bad.Add("/machine_id", "has 1 to 200 characters")
	}
	if err := bad.Err(); err != nil {
		return err
	}
	if len(j.token.Names) > 0 && !slices.ContainsFunc(j.token.Names, func(pattern string) bool {
		ok, err := path.Match(pattern, j.Name)
		return ok && err == nil
	}) {
		return certctl.Errorf(certctl.Denied, "this join token is not for an agent named %q", j.Name).
			WithRemedy("use one of these names: %v", j.token.Names)
	}
	if len(j.token.Networks) > 0 && !slices.ContainsFunc(j.token.Networks, func(network string) bool {
		prefix, err := netip.ParsePrefix(network)
		return err == nil && prefix.Contains(j.remote.Unmap())
	}) {
		return certctl.Errorf(certctl.Denied, "this join token may not be used from %s", j.remote)
	}
	return nil
}

// newKeys refuses keys that are or were those of an agent.
func (t *tx) newKeys(ctx context.Context, keys certctl.AgentKeys) error {
	var current, former bool
	err := t.QueryRow(ctx, `
		select coalesce(bool_or(until is null), false), coalesce(bool_or(until is not null), false)
		from agent_key where public = any($1)`, [][]byte{[]byte(keys.Bus), keys.Signing, keys.Sealing}).Scan(&current, &former)
	switch {
	case err == nil && former:
		return retiredKeys()
	case err == nil && current:
		return certctl.Errorf(certctl.Conflict, "another agent has one of these keys").
			WithRemedy("remove the agent's state directory, so that it makes new keys, and enrol it anew")
	}
	return err
}

func (t *tx) insertAgent(ctx context.Context, id certctl.ID, j *joining, word certctl.Statement) error {
	err := t.put(ctx, `
		insert into agent (id, team_id, name, state, machine_id, statement, labels, version, fleet)
		select $1, team.id, $2, $3, $4, $5::jsonb, $6, $7, $8 from team where team.name = $9`,
		id, j.Name, string(j.firstState()), j.MachineID, word, j.labels(), certctl.Clip(j.Version, 100), j.token.Fleet, j.token.Team)
	return err
}

// replaceAgent gives an agent's identity to a machine with new keys. The old
// machine is told to stop, and can log in no more. The agent stays in its fleet,
// whatever token has mended it: its next pod comes with the fleet's.
func (t *tx) replaceAgent(ctx context.Context, id certctl.ID, j *joining, word certctl.Statement) error {
	if err := t.forgetSessions(ctx, id); err != nil {
		return err
	}
	if err := t.endKeys(ctx, id); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update agent set state = $2, state_reason = '', machine_id = $3, statement = $4::jsonb, labels = labels || $5, version = $6,
			fleet = case when $7 = '' then fleet else $7 end, enrolled_at = now() where id = $1`,
		id, string(j.firstState()), j.MachineID, word, j.labels(), certctl.Clip(j.Version, 100), j.token.Fleet); err != nil {
		return err
	}
	t.hint(certctl.HintSystem, certctl.NoLane, id) // whoever keeps the bus's accounts
	return t.orderAnew(ctx, id)
}

func (j *joining) firstState() certctl.AgentState {
	if j.token.Approve {
		return certctl.AgentActive
	}
	return certctl.AgentPending
}

// labels are those of the machine, overruled by those of the token.
func (j *joining) labels() map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, j.Labels)
	maps.Copy(labels, j.token.Labels)
	return labels
}

func (t *tx) insertKeys(ctx context.Context, id certctl.ID, keys certctl.AgentKeys) error {
	_, err := t.Exec(ctx, `
		insert into agent_key (agent_id, kind, public)
		select $1, kind, public from unnest('{bus,signing,sealing}'::text[], $2::bytea[]) as k(kind, public)`,
		id, [][]byte{[]byte(keys.Bus), keys.Signing, keys.Sealing})
	if conflictOn(err, "agent_key_public") {
		return certctl.Wrap(certctl.Conflict, err, "another agent has one of these keys")
	}
	return err
}

// endKeys retires an agent's keys for ever.
func (t *tx) endKeys(ctx context.Context, id certctl.ID) error {
	err := t.put(ctx, `update agent_key set until = now() where agent_id = $1 and until is null`, id)
	return err
}

// orderAnew orders new leaves for the holders of an agent whose keys are gone,
// and ends the orders that would certify one of those.
func (t *tx) orderAnew(ctx context.Context, agent certctl.ID) error {
	certificates, err := t.certificatesOfAgent(ctx, agent)
	if err != nil {
		return err
	}
	for _, id := range certificates {
		h, err := t.hold(ctx, certctl.VerbIssue, id.String())
		if err != nil {
			return err
		}
		live, err := t.liveOrders(ctx, id)
		if err != nil {
			return err
		}
		if h.keyMode == certctl.KeyModeAgent && h.sharing == certctl.SharingShared {
			if err := t.memberReplaced(ctx, h, agent, live); err != nil {
				return err
			}
			continue
		}
		holder := h.holderOf(agent)
		if holder == nil {
			continue // an import, whose key the platform keeps
		}
		live = slices.DeleteFunc(live, func(o liveOrder) bool { return o.holder != holder.id || o.csr == nil })
		if err := t.cancelOrders(ctx, h.team, "the agent was replaced", live); err != nil {
			return err
		}
		if err := t.forgetNextKeys(ctx, holder.id); err != nil {
			return err
		}
		if _, err := t.newOrders(ctx, []orderSpec{{Certificate: id, Holder: holder.id, Origin: certctl.OriginSystem,
			Urgency: certctl.UrgencyNow, Reason: "agent_replaced"}}); err != nil {
			return err
		}
	}
	return t.refreshStatus(ctx, certificates...)
}

// certificatesOfAgent returns the certificates with live bindings on an agent's
// targets, in the order in which they are locked.
func (t *tx) certificatesOfAgent(ctx context.Context, agent certctl.ID) ([]certctl.ID, error) {
	rows, err := t.Query(ctx, `
		select distinct b.certificate_id from target join binding b on b.target_id = target.id
		where target.agent_id = $1 and b.unbound_at is null order by b.certificate_id`, agent)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
}
