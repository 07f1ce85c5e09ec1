-- The newest test of each target: what its agent would do there, and how that
-- would end. What an agent can be asked for besides kinds of targets.

-- +goose Up

create table target_test (
    target_id    uuid primary key references target,
    id           uuid not null unique,         -- of the request; another request is another id
    number       bigint not null,              -- of the command
    revision     bigint not null,              -- of the target, when it was asked for
    requested_at timestamptz not null default now(),
    not_after    timestamptz not null,         -- no agent begins it afterwards
    finished_at  timestamptz,
    steps        jsonb not null default '[]',  -- a list of certctl.TestStep
    receipt      jsonb                         -- certctl.Statement: the agent's word
);

alter table agent add column features text[] not null default '{}';

-- +goose Down
delete from due where kind = 'test';
alter table agent drop column features;
drop table target_test;
