-- Who acts: installation, teams, principals, keys, and what nobody may lose.

-- +goose Up

-- One row: which installation this database is. Signatures name it, so that a
-- message of one installation means nothing to another.
create table installation (
    only_row   boolean primary key default true check (only_row),
    id         uuid not null,
    pki_url    text not null default '',
    created_at timestamptz not null default now()
);

create table team (
    id         uuid primary key,
    name       text not null unique,
    created_at timestamptz not null default now()
);

create table principal (
    id          uuid primary key,
    team_id     uuid references team,          -- null: sees every team
    kind        text not null check (kind in ('user', 'service', 'agent', 'protocol', 'system')),
    name        text not null unique,
    roles       text[] not null default '{}',
    disabled_at timestamptz,
    created_at  timestamptz not null default now()
);

create table api_key (
    id           uuid primary key,
    principal_id uuid not null references principal,
    name         text not null,
    prefix       text not null,
    hash         bytea not null unique,        -- SHA-256 of the whole key
    created_at   timestamptz not null default now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index api_key_principal on api_key (principal_id);

-- The answer to a request that may be repeated, stored with its change.
create table idempotency (
    principal_id uuid not null,
    key          text not null,
    request_hash bytea not null,
    object_id    uuid not null,                -- what the request made; the answer is rendered from it
    created_at   timestamptz not null default now(),
    primary key (principal_id, key)
);
create index idempotency_age on idempotency (created_at);

-- The platform's own keys. Each is made once, under an advisory lock, and is
-- sealed with the "ca" key-encryption key.
create table platform_key (
    id         uuid primary key,
    purpose    text not null,
    public     bytea not null,
    sealed     bytea not null,
    not_before timestamptz not null default now(),
    not_after  timestamptz,
    created_at timestamptz not null default now()
);
create index platform_key_purpose on platform_key (purpose, not_before);

-- Signed by the fleet key; agents take any version newer than theirs.
create table trust_document (
    version    bigint primary key,
    statement  jsonb not null,
    created_at timestamptz not null default now()
);

-- What readers of the event stream may fetch.
create table reader (
    id         uuid primary key,
    team_id    uuid not null references team,
    name       text not null,
    owner      text not null default '',
    filters    text[] not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    created_at timestamptz not null default now()
);
create unique index reader_name on reader (team_id, name) where revoked_at is null;

-- When a stream was last seen made; a younger one is refilled from the event table.
create table stream_state (
    name       text primary key,
    created_at timestamptz not null
);

-- +goose Down
drop table stream_state, reader, trust_document, platform_key, idempotency, api_key, principal, team, installation;
