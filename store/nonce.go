package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// NewAgentNonce remembers a nonce that an agent may sign within ttl. What has
// run out is forgotten on the way. Retired agents get none.
func (s *Store) NewAgentNonce(ctx context.Context, agent certctl.ID, nonce []byte, ttl time.Duration) error {
	return s.write(ctx, certctl.SystemActor("api"), func(t *tx) error {
		var state certctl.AgentState
		if err := t.QueryRow(ctx, `select state from agent where id = $1`, agent).Scan(&state); err != nil {
			return orNotFound(err, certctl.ObjectAgent, agent)
		}
		if state == certctl.AgentRetired {
			return certctl.Errorf(certctl.Gone, "this agent was retired").WithRemedy("enrol this machine anew if it should come back")
		}
		if err := t.put(ctx, `
			delete from agent_nonce where nonce in
				(select nonce from agent_nonce where expires_at <= now() order by expires_at limit 100 for update skip locked)`); err != nil {
			return err
		}
		err := t.put(ctx, `insert into agent_nonce (nonce, agent_id, expires_at) values ($1, $2, $3)`, nonce, agent, t.now.Add(ttl))
		return err
	})
}

// UseAgentNonce spends a nonce; Denied when it is not this agent's, has run out
// or was used before.
func (s *Store) UseAgentNonce(ctx context.Context, agent certctl.ID, nonce []byte) error {
	tag, err := s.pool.Exec(ctx, `delete from agent_nonce where nonce = $1 and agent_id = $2 and expires_at > now()`, nonce, agent)
	if err == nil && tag.RowsAffected() == 0 {
		return certctl.Errorf(certctl.Denied, "this nonce is not valid: it was used, or too much time has passed").
			WithRemedy("ask for a new one")
	}
	return failed(err, "the nonce could not be used")
}
