package store

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueExternal is the kind of rows in the table due for orders that are to be
// ended at their CA.
const dueExternal = "external_order"

// ExternalAccount returns the account of an issuer at a server; NotFound before
// there is one.
func (s *Store) ExternalAccount(ctx context.Context, issuer certctl.ID, directory string) (certctl.ExternalAccount, error) {
	a := certctl.ExternalAccount{Issuer: issuer, Directory: directory}
	err := s.pool.QueryRow(ctx, `
		select id, sealed_key, url, contact, given, created_at from external_account where issuer_id = $1 and directory = $2`, issuer, directory).
		Scan(&a.ID, &a.SealedKey, &a.URL, &a.Contact, &a.Given, &a.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, certctl.Errorf(certctl.NotFound, "the issuer %s has no account at %s yet", issuer, directory)
	}
	return a, failed(err, "the account could not be read")
}

// AddExternalAccount stores a new account's key, before the CA hears of it.
func (s *Store) AddExternalAccount(ctx context.Context, a certctl.ExternalAccount) error {
	_, err := s.pool.Exec(ctx, `
		insert into external_account (id, issuer_id, directory, sealed_key) values ($1, $2, $3, $4)`,
		a.ID, a.Issuer, a.Directory, a.SealedKey)
	return failed(err, "the account could not be recorded")
}

// giveAccount makes an account that a CA has already an issuer's. One that the CA
// has confirmed stays: what was issued through it is revoked through it.
func (t *tx) giveAccount(ctx context.Context, issuer certctl.ID, a *certctl.ExternalAccount) error {
	if a == nil {
		return nil
	}
	if err := t.put(ctx, `delete from external_account where issuer_id = $1 and directory = $2 and url = ''`, issuer, a.Directory); err != nil {
		return err
	}
	tag, err := t.Exec(ctx, `
		insert into external_account (id, issuer_id, directory, sealed_key, given) values ($1, $2, $3, $4, true) on conflict do nothing`,
		a.ID, issuer, a.Directory, a.SealedKey)
	if err == nil && tag.RowsAffected() == 0 {
		return certctl.Errorf(certctl.Conflict, "the issuer has an account at %s already", a.Directory).
			WithRemedy("make another issuer for another account")
	}
	return err
}

// RegisterExternalAccount records what the CA calls an account, and whom it may
// write to.
func (s *Store) RegisterExternalAccount(ctx context.Context, a certctl.ExternalAccount) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if a.Contact == nil {
			a.Contact = []string{}
		}
		var name, team string
		err := t.QueryRow(ctx, `
			update external_account a set url = $2, contact = $3 from issuer i join team on team.id = i.team_id
			where a.id = $1 and i.id = a.issuer_id returning i.name, team.name`, a.ID, a.URL, a.Contact).Scan(&name, &team)
		if err != nil {
			return err
		}
		t.event(team, certctl.AggregateIssuer, a.Issuer, certctl.EventIssuerAccount, map[string]any{"name": name, "account": a.ID})
		return nil
	})
}

// HoldExternal reports whether an order may ask its account for its names: no
// other one does, or has left something there that is not ended yet.
func (s *Store) HoldExternal(ctx context.Context, hold certctl.ExternalHold) (bool, error) {
	var held bool
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.put(ctx, `
			insert into external_order (id, account_id, names, issuer_id, order_id)
			select $1, $2, $3, $4, o.id from cert_order o where o.id = $5 and o.state = 'processing'
			on conflict do nothing`,
			certctl.NewID(t.now), hold.Account, hold.Names[:], hold.Issuer, hold.Order); err != nil {
			return err
		}
		return t.QueryRow(ctx, `
			select exists (select from external_order
				where account_id = $1 and names = $2 and order_id = $3 and abandoned_at is null)`,
			hold.Account, hold.Names[:], hold.Order).Scan(&held)
	})
	return held, err
}

// PutChallengeTokens has every replica answer with an order's proofs.
func (s *Store) PutChallengeTokens(ctx context.Context, order certctl.ID, tokens []certctl.ChallengeToken) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		for _, token := range tokens {
			tag, err := t.Exec(ctx, `
				insert into challenge_token (token, answer, external_id)
				select $1, $2, id from external_order where (order_id = $3 or trial_id = $3) and abandoned_at is null
				on conflict (token) do update set answer = excluded.answer where challenge_token.external_id = excluded.external_id`,
				token.Token, token.Answer, order)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return certctl.Errorf(certctl.Conflict, "the order %s may prove nothing any more, or its CA gave it another order's token", order)
			}
		}
		return nil
	})
}

// RemoveChallengeTokens ends the answers for an order, of replicas and of agents.
func (s *Store) RemoveChallengeTokens(ctx context.Context, order certctl.ID) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.put(ctx, `
			delete from challenge_token t using external_order x
			where (x.order_id = $1 or x.trial_id = $1) and x.abandoned_at is null and t.external_id = x.id`, order); err != nil {
			return err
		}
		return t.dropProofs(ctx, `p.external_id = any(array(select id from external_order where (order_id = $1 or trial_id = $1) and abandoned_at is null))`, order)
	})
}

// ChallengeAnswer returns what proves a token to a CA; NotFound for tokens that
// are not ours.
func (s *Store) ChallengeAnswer(ctx context.Context, token string) (string, error) {
	var answer string
	err := s.pool.QueryRow(ctx, `select answer from challenge_token where token = $1`, token).Scan(&answer)
	return answer, failed(err, "the challenge token could not be read")
}
