-- After a restore: what has happened since the backup comes back from the field.

-- +goose Up

-- One row for each restore. While one is not finished, the installation does not
-- know everything that it has done.
create table recovery (
    id          uuid primary key,
    as_of       timestamptz not null,          -- the moment of the backup
    began_at    timestamptz not null default now(),
    stream      text not null default 'unread' check (stream in ('unread', 'read', 'absent', 'skipped')),
    events      bigint not null default 0,     -- that the event stream still had
    finished_at timestamptz
);
create unique index recovery_open on recovery ((finished_at is null)) where finished_at is null;

-- The agents that were active: it is over when all of them have said what they
-- have, and it is known here.
create table recovery_agent (
    recovery_id uuid not null references recovery,
    agent_id    uuid not null references agent,
    heard_at    timestamptz,
    primary key (recovery_id, agent_id)
);

-- Versions that agents have and that were not known here.
create table recovery_version (
    recovery_id uuid not null references recovery,
    agent_id    uuid not null references agent,
    binding_id  uuid not null,
    version_id  uuid not null,
    outcome     text not null default '' check (outcome in ('', 'taken', 'refused')), -- '': asked for
    reason      text not null default '',
    primary key (recovery_id, agent_id, binding_id, version_id)
);

-- Leaves that are known from events only, until somebody who has one brings it.
create table version_stub (
    version_id     uuid primary key,
    certificate_id uuid not null,              -- which may be lost
    order_id       uuid,
    issuer_id      uuid,
    authority_id   uuid,
    serial         text not null,
    fingerprint    bytea not null,
    not_after      timestamptz not null,
    revoked_at     timestamptz,
    revocation     text not null default '',
    created_at     timestamptz not null default now()
);
create index version_stub_serial on version_stub (serial);
create index version_stub_order on version_stub (order_id);

-- +goose Down

drop table version_stub, recovery_version, recovery_agent, recovery;
