-- Tests of certificates at the staging directories of their issuers.

-- +goose Up

create table trial (
    id             uuid primary key,
    certificate_id uuid references certificate,  -- null: it is not made yet
    name           text not null,
    team_id        uuid not null references team,
    issuer_id      uuid not null references issuer,
    requester_id   uuid,                         -- for people: nothing reads it
    directory      text not null,
    names          jsonb not null,               -- snapshots: what is tested does not change under way
    profile        jsonb not null,
    agents         uuid[] not null,              -- of its targets
    csr            bytea,                        -- of a key that nobody has any more
    external_url   text not null default '',
    state          bytea,                        -- the driver's
    steps          jsonb not null default '[]',
    outcome        text not null default 'running' check (outcome in ('running', 'passed', 'failed')),
    wait           text not null default '',
    error_code     text not null default '',
    message        text not null default '',
    worker         text not null default '',
    lease_until    timestamptz,
    tries          int not null default 0,       -- to remove what is left of it
    created_at     timestamptz not null default now(),
    ended_at       timestamptz
) with (fillfactor = 70);
-- One at a time: a second request gets the one that runs.
create unique index trial_running on trial (certificate_id) where outcome = 'running';
create index trial_team on trial (team_id) where outcome = 'running';
create index trial_certificate on trial (certificate_id, id);

-- An order at a CA is of an order here, or of a test.
alter table external_order alter column order_id drop not null;
alter table external_order add column trial_id uuid references trial on delete cascade;
alter table external_order add constraint external_order_of check ((order_id is null) <> (trial_id is null));
create index external_order_trial on external_order (trial_id);

-- +goose Down
delete from due where kind = 'trial';
delete from external_order where trial_id is not null;
alter table external_order drop constraint external_order_of, drop column trial_id;
alter table external_order alter column order_id set not null;
drop table trial;
