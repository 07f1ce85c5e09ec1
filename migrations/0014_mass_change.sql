-- Mass changes: rollouts.

-- +goose Up

create table rollout (
    id            uuid primary key,
    team_id       uuid references team,        -- null: certificates of every team
    state         text not null check (state in ('running', 'stopped', 'halted', 'completed', 'cancelled')),
    selection     jsonb not null,
    reason        text not null default '',
    override      text not null default '',    -- why it cannot wait for the end of a freeze
    revoke_reason text not null default '',    -- '': nothing is revoked
    replace       text not null default '',
    deadline      timestamptz not null,
    pace          jsonb not null,              -- certctl.RolloutPace
    plan          jsonb not null default '{}', -- certctl.RolloutPlan
    total         int not null default 0,
    wave          int not null default 0,
    base          int not null default 0,
    began_at      timestamptz,
    released_at   timestamptz,
    forgiven      int not null default 0,
    message       text not null default '',
    creator       text not null,
    requester_id  uuid,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    closed_at     timestamptz
);

-- What a rollout is about. Waves are ranges of places. Items in the state
-- selected are revoked, or let wait for their replacement, before any wave.
create table rollout_item (
    rollout_id     uuid not null references rollout,
    place          int not null,
    certificate_id uuid not null references certificate,
    holder_id      uuid not null references holder,
    version_id     uuid not null references version, -- that is replaced or revoked
    state          text not null check (state in ('selected', 'pending', 'ordered', 'done', 'failed', 'skipped')),
    order_id       uuid,
    released_at    timestamptz,
    primary key (rollout_id, place)
) with (fillfactor = 80);

-- +goose Down
delete from due where kind = 'rollout';
drop table rollout_item, rollout;
