-- Mass changes: rollouts, and the guard against those that nobody meant.

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

-- One row: how much of the fleet a change may have re-issued at once. See
-- certctl.Guard.
create table guard (
    only_row   boolean primary key default true check (only_row),
    id         uuid not null default gen_random_uuid(),
    share      double precision not null default 0.2,
    least      int not null default 50,
    fleet      int not null default 0,
    changed    int not null default 0,
    counted_at timestamptz,
    held_at    timestamptz
);
insert into guard default values;

-- Holders that a person has let go, up to which revision.
create table guard_pass (
    holder_id uuid primary key references holder,
    revision  bigint not null
);

-- +goose Down
drop table guard_pass, guard;
delete from due where kind = 'rollout';
drop table rollout_item, rollout;
