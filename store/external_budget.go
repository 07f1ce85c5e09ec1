package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// budgetsKept is how long uses are kept: longer than any budget's time.
const budgetsKept = "32 days"

// SpendExternal counts an order against its account's budgets. When one of them is
// used up nothing is counted, and the answer is that one. An order that spends again, since its worker died or its attempt
// failed, is counted once, but for BudgetOrders.
func (s *Store) SpendExternal(ctx context.Context, spend certctl.ExternalSpend) (certctl.BudgetFull, error) {
	var full certctl.BudgetFull
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("budget/"+spend.Account.String())); err != nil {
			return err
		}
		if err := t.put(ctx, `delete from external_use where at < now() - interval '`+budgetsKept+`'`); err != nil {
			return err
		}
		var err error
		if full, err = t.fullBudget(ctx, spend); err != nil || full.After > 0 {
			return err
		}
		var keys []string
		for _, use := range spend.Uses {
			if !use.Kept {
				keys = append(keys, use.Key)
			}
		}
		if err := t.put(ctx, `
			delete from external_use where account_id = $1 and order_id = $2 and key = any($3) and key <> $4`,
			spend.Account, spend.Order, keys, certctl.BudgetOrders); err != nil {
			return err
		}
		return t.put(ctx, `
			insert into external_use (account_id, key, at, order_id) select $1, unnest($2::text[]), now(), $3 on conflict do nothing`,
			spend.Account, keys, spend.Order)
	})
	return full, err
}

// fullBudget returns the budget that has room last of those that have none. What
// fills it up to its count is the use at that place from the newest.
func (t *tx) fullBudget(ctx context.Context, spend certctl.ExternalSpend) (full certctl.BudgetFull, err error) {
	keys, counts, periods := make([]string, len(spend.Uses)), make([]int32, len(spend.Uses)), make([]time.Duration, len(spend.Uses))
	for i, use := range spend.Uses {
		keys[i], counts[i], periods[i] = use.Key, int32(use.Rate.Count), time.Duration(use.Rate.Per) //nolint:gosec // checked with the settings
	}
	var place int
	err = t.QueryRow(ctx, `
		select b.place::int, used.at + b.period from unnest($2::text[], $3::int[], $4::interval[]) with ordinality as b(key, count, period, place)
		cross join lateral (
			select u.at from external_use u where u.account_id = $1 and u.key = b.key and u.at > now() - b.period
				and (u.order_id <> $5 or b.key = $6 or starts_with(b.key, $7))
			order by u.at desc offset b.count - 1 limit 1) used
		order by 2 desc limit 1`,
		spend.Account, keys, counts, periods, spend.Order, certctl.BudgetOrders, certctl.BudgetFailures).Scan(&place, &full.Until)
	if errors.Is(err, pgx.ErrNoRows) {
		return full, nil
	}
	if err != nil {
		return full, err
	}
	full.Use, full.After = spend.Uses[place-1], max(full.Until.Sub(t.now), time.Second)
	return full, nil
}

// CountExternalFailure counts a name whose validation has failed for an order.
func (s *Store) CountExternalFailure(ctx context.Context, account, order certctl.ID, name string) error {
	_, err := s.pool.Exec(ctx, `
		insert into external_use (account_id, key, at, order_id) values ($1, $2, now(), $3) on conflict do nothing`,
		account, certctl.BudgetFailures+name, order)
	return failed(err, "the failed validation could not be counted")
}

// returnBudget takes back what an order has spent of which no certificate came.
func (t *tx) returnBudget(ctx context.Context, order certctl.ID) error {
	return t.put(ctx, `
		delete from external_use where order_id = $1 and (starts_with(key, $2) or starts_with(key, $3))`,
		order, certctl.BudgetDomain, certctl.BudgetNames)
}

// SpentBudgets are the uses of the budgets of an issuer's accounts that may still
// count, by key.
func (s *Store) SpentBudgets(ctx context.Context, issuer certctl.ID) (map[string][]time.Time, error) {
	rows, err := s.pool.Query(ctx, `
		select u.key, u.at from external_use u join external_account a on a.id = u.account_id
		where a.issuer_id = $1 and not starts_with(u.key, $2) order by u.at`, issuer, certctl.BudgetFailures)
	if err != nil {
		return nil, failed(err, "the budgets could not be read")
	}
	spent := map[string][]time.Time{}
	var key string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&key, &at}, func() error {
		spent[key] = append(spent[key], at)
		return nil
	})
	return spent, failed(err, "the budgets could not be read")
}
