-- Work: orders, attempts, versions, deployments, revocations, and what is due.

-- +goose Up

-- "order" is a word of SQL.
create table cert_order (
    id             uuid primary key,
    certificate_id uuid not null references certificate,
    holder_id      uuid not null references holder,
    revision       bigint not null,
    state          text not null check (state in
        ('pending', 'awaiting_approval', 'awaiting_csr', 'ready', 'processing', 'issued', 'refused', 'cancelled')),
    live           boolean generated always as
        (case when state in ('issued', 'refused', 'cancelled') then null else true end) stored,
    wait           text not null default '',
    error_code     text not null default '',
    message        text not null default '',
    origin         text not null,
    requester_id   uuid,
    names          jsonb not null,             -- snapshots: what is asked does not change under way
    profile        jsonb not null,
    issuer_id      uuid not null references issuer,
    csr            bytea,
    csr_spki       bytea,
    attempts       int not null default 0,
    lost_leases    int not null default 0,     -- in a row
    urgency        smallint not null,
    number         bigint not null default 0,  -- of the key command sent for it
    version_id     uuid,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    closed_at      timestamptz
) with (fillfactor = 70);
-- One live order per certificate and holder, whatever is tried.
create unique index cert_order_live on cert_order (certificate_id, holder_id) nulls not distinct where live;
create index cert_order_certificate on cert_order (certificate_id, id);

create table attempt (
    order_id     uuid not null references cert_order,
    n            int not null,
    issuer_id    uuid not null,
    authority_id uuid,
    worker       text not null,
    serial       text not null default '',
    tbs_digest   bytea,
    external_url text not null default '',
    state        bytea,
    lease_until  timestamptz not null,
    outcome      text not null default '',
    error_code   text not null default '',
    message      text not null default '',
    started_at   timestamptz not null,
    finished_at  timestamptz,
    primary key (order_id, n)
) with (fillfactor = 70);
create index attempt_serial on attempt (serial) where serial <> '';

create table version (
    id             uuid primary key,
    certificate_id uuid not null references certificate,
    holder_id      uuid not null references holder,
    order_id       uuid references cert_order,
    attempt        int,
    issuer_id      uuid,
    authority_id   uuid references authority,
    revision       bigint not null,
    serial         text not null,
    fingerprint    bytea not null unique,
    spki           bytea not null,
    algorithm      text not null,
    not_before     timestamptz not null,
    not_after      timestamptz not null,
    leaf           bytea not null,
    chain_digest   bytea not null references chain,
    origin         text not null,
    replaces       uuid,
    renew_at       timestamptz,
    revoked_at     timestamptz,
    revocation     text not null default '',
    created_at     timestamptz not null default now()
);
create index version_certificate on version (certificate_id, id);
create index version_serial on version (serial);
create index version_spki on version (spki);
-- Revocation lists are read by shard: the low bits of the serial number.
create index version_revoked on version (authority_id, lpad(right(serial, 4), 4, '0')) where revoked_at is not null;

create table revocation (
    version_id uuid primary key references version,
    issuer_id  uuid,
    reason     text not null,
    state      text not null check (state in ('requested', 'sent', 'confirmed', 'failed', 'not_supported')),
    tries      int not null default 0,
    message    text not null default '',
    requester_id uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table deployment (
    id             uuid primary key,
    certificate_id uuid not null references certificate,
    binding_id     uuid not null references binding,
    target_id      uuid not null references target,
    agent_id       uuid not null references agent,
    version_id     uuid not null references version,
    state          text not null check (state in
        ('pending', 'installing', 'verified', 'installed', 'rolled_back', 'failed', 'superseded')),
    wait           text not null default '',
    reason         text not null default '',
    message        text not null default '',
    tries          int not null default 0,
    number         bigint not null default 0,
    receipt        jsonb,                      -- the agent's signed statement, as it came
    verified_at    timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    unique (binding_id, version_id)
) with (fillfactor = 70);
create index deployment_certificate on deployment (certificate_id, id);
create index deployment_agent on deployment (agent_id, id);

-- The queue. One thin row for everything that somebody must look at next; a
-- handler's next step is a row here, never a call. Rows are addressed by their
-- key; only the dispatcher walks due_order.
create table due (
    kind    text not null check (kind in ('order', 'deployment', 'holder', 'revocation', 'crl', 'binding', 'system')),
    id      uuid not null,
    verb    text not null,                     -- which hint to give
    lane    text not null,                     -- an issuer's id, or '-'
    agent_id uuid,                             -- for bells: whom to ring
    urgency smallint not null,
    due_at  timestamptz not null,
    primary key (kind, id)
) with (fillfactor = 70);
create index due_order on due (verb, lane, urgency, due_at);
-- What waits for an agent: its mailbox.
create index due_agent on due (agent_id) where agent_id is not null;

-- Who is asking an issuer that allows only so many at once. A row that is past
-- its time counts no more; apart from attempt, since counting there would need
-- an index on unfinished ones.
create table issuer_slot (
    issuer_id uuid not null references issuer,
    order_id  uuid not null references cert_order,
    until     timestamptz not null,
    primary key (issuer_id, order_id)
);

create table dead_letter (
    id           uuid primary key,
    verb         text not null,
    lane         text not null,
    ids          uuid[] not null,
    reason       text not null,
    message      bytea,
    created_at   timestamptz not null default now(),
    replayed_at  timestamptz,
    discarded_at timestamptz
);

-- +goose Down
drop table dead_letter, issuer_slot, due, deployment, revocation, version, attempt, cert_order;
