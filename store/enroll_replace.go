package store

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// takenOver returns the agent that has the machine's name, NoID without one,
// and refuses when the token may not replace it. Whether one of a fleet is off
// line is for the caller of Enroll to find out: see ReplacedByFleet.
func (t *tx) takenOver(ctx context.Context, j *joining) (certctl.ID, error) {
	var id certctl.ID
	var fleet string
	err := t.QueryRow(ctx, `
		select a.id, a.fleet from agent a join team on team.id = a.team_id
		where team.name = $1 and a.name = $2 and a.state <> 'retired'`, j.token.Team, j.Name).Scan(&id, &fleet)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return certctl.NoID, nil
	case err != nil:
		return certctl.NoID, err
	case !j.token.Replace && j.token.Fleet == "":
		return certctl.NoID, certctl.Errorf(certctl.Conflict, "there is already an agent named %q", j.Name).
			WithRemedy("choose another name, retire that agent, or use a join token that may replace it")
	case j.token.Fleet != "" && j.token.Fleet != fleet:
		return certctl.NoID, certctl.Errorf(certctl.Conflict, "there is already an agent named %q, which did not join with a token of the fleet %s", j.Name, j.token.Fleet).
			WithRemedy("choose another name, retire that agent, or use a join token of its own that may replace it")
	}
	return id, nil
}

// ReplacedByFleet returns the agent that an enrolment with this token would
// replace, when that is a token of a fleet: NoID for other tokens, for names that
// are free, and for keys that the agent has already.
func (s *Store) ReplacedByFleet(ctx context.Context, token certctl.Digest, enrolment certctl.Enrolment) (certctl.ID, error) {
	var id certctl.ID
	err := s.pool.QueryRow(ctx, `
		select a.id from join_token k join agent a on a.team_id = k.team_id
		where k.hash = $1 and k.fleet <> '' and a.fleet = k.fleet and a.name = $2 and a.state <> 'retired'
			and not exists (select from agent_key where agent_id = a.id and kind = 'bus' and public = $3 and until is null)`,
		token, enrolment.Name, []byte(enrolment.Keys.Bus)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return certctl.NoID, nil
	}
	return id, failed(err, "the agent to be replaced could not be looked up")
}

// TakeIntoFleet makes a token that may replace any agent one of a fleet, from
// before there were fleets, and the agents that joined with it agents of that
// fleet. It returns how many those are; a token of another kind stays as it is.
func (s *Store) TakeIntoFleet(ctx context.Context, token certctl.Digest, fleet string) (int, error) {
	agents := 0
	err := s.write(ctx, certctl.SystemActor("setup"), func(t *tx) error {
		var id certctl.ID
		err := t.QueryRow(ctx, `
			update join_token set fleet = $2, replace = false where hash = $1 and replace and fleet = '' returning id`, token, fleet).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `
			update agent set fleet = $2 where fleet = '' and id in (select agent_id from join_use where token_id = $1)`, id, fleet)
		agents = int(tag.RowsAffected())
		return err
	})
	return agents, err
}
