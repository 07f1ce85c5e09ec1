-- What should exist, who issues it, and where it goes.

-- +goose Up

create table profile (
    id          uuid primary key,
    team_id     uuid not null references team,
    name        text not null,
    body        jsonb not null,                -- certctl.Profile without id, team and times
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    archived_at timestamptz
);
create unique index profile_name on profile (team_id, name) where archived_at is null;

create table renewal_policy (
    id          uuid primary key,
    team_id     uuid not null references team,
    name        text not null,
    body        jsonb not null,                -- certctl.RenewalPolicy likewise
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    archived_at timestamptz
);
create unique index renewal_policy_name on renewal_policy (team_id, name) where archived_at is null;

create table issuer (
    id            uuid primary key,
    team_id       uuid not null references team,
    name          text not null,
    kind          text not null,
    settings      jsonb not null default '{}',
    sealed        bytea,                       -- secrets, under the "secrets" KEK
    trust         text not null check (trust in ('public', 'private')),
    concurrency   int not null default 0,      -- live leases at once over all replicas; 0: no limit
    health        text not null default 'unknown',
    health_reason text not null default '',
    paused        boolean not null default false,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    archived_at   timestamptz
);
create unique index issuer_name on issuer (team_id, name) where archived_at is null;

-- Chains are stored once, whatever the number of leaves below them.
create table chain (
    digest bytea primary key,
    certs  bytea[] not null                    -- DER, each signed by the next
);

create table authority (
    id           uuid primary key,
    issuer_id    uuid not null references issuer,
    parent_id    uuid references authority,
    state        text not null check (state in ('requested', 'active', 'retiring', 'retired')),
    is_root      boolean not null,
    certificate  bytea,                        -- DER; null while requested
    chain_digest bytea references chain,
    key_uri      text not null,
    sealed_key   bytea,                        -- under the "ca" KEK; null when the key is off line or elsewhere
    pki_url      text not null,
    shards       int not null,
    not_before   timestamptz,
    not_after    timestamptz,
    created_at   timestamptz not null default now()
);
create unique index authority_active on authority (issuer_id) where state = 'active' and not is_root;

create table crl (
    authority_id uuid not null references authority,
    shard        int not null,                 -- -1: the complete list
    number       bigint not null,
    der          bytea not null,
    this_update  timestamptz not null,
    next_update  timestamptz not null,
    primary key (authority_id, shard)
);

create table agent (
    id           uuid primary key,
    team_id      uuid not null references team,
    name         text not null,
    state        text not null check (state in ('pending', 'active', 'conflict', 'retired')),
    state_reason text not null default '',
    machine_id   text not null,
    statement    jsonb not null,               -- fleet key's word on id and public keys
    labels       jsonb not null default '{}',
    version      text not null default '',
    capabilities text[] not null default '{}',
    enrolled_at  timestamptz not null default now(),
    retired_at   timestamptz
);
create unique index agent_name on agent (team_id, name) where state <> 'retired';

create table agent_key (
    agent_id uuid not null references agent,
    kind     text not null check (kind in ('bus', 'signing', 'sealing')),
    public   bytea not null,
    since    timestamptz not null default now(),
    until    timestamptz,
    primary key (agent_id, kind, since)
);
create unique index agent_key_public on agent_key (public, kind);

-- Presence changes with every contact; apart from the agent so that it touches
-- one thin row and no index but its own.
create table agent_contact (
    agent_id       uuid primary key references agent,
    at             timestamptz not null,
    session        bigint not null default 0,  -- number of the session that counts
    session_id     uuid,
    machine_id     text not null default '',
    superseded     uuid[] not null default '{}', -- the last few sessions before it
    alternated_by  uuid,                       -- the superseded session that came back last, and when
    alternated_at  timestamptz
) with (fillfactor = 70);

create table agent_nonce (
    nonce      bytea primary key,
    agent_id   uuid not null,
    expires_at timestamptz not null
);
create index agent_nonce_expiry on agent_nonce (expires_at);

create table join_token (
    id         uuid primary key,
    team_id    uuid not null references team,
    prefix     text not null,
    hash       bytea not null unique,
    uses_left  int not null,
    expires_at timestamptz not null,
    names      text[] not null default '{}',
    labels     jsonb not null default '{}',
    networks   text[] not null default '{}',
    approve    boolean not null,
    replace    boolean not null default false,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

-- Which keys a token was used for: the same token and keys get the same agent.
create table join_use (
    token_id  uuid not null references join_token,
    keys_hash bytea not null,
    agent_id  uuid not null references agent,
    primary key (token_id, keys_hash)
);

create table target (
    id          uuid primary key,
    team_id     uuid not null references team,
    agent_id    uuid not null references agent,
    name        text not null,
    kind        text not null,
    settings    jsonb not null,
    sealed      bytea,                         -- secrets, under the "secrets" KEK
    revision    bigint not null default 1,
    labels      jsonb not null default '{}',
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    archived_at timestamptz
);
create unique index target_name on target (team_id, name) where archived_at is null;
create index target_agent on target (agent_id);

create table certificate (
    id            uuid primary key,
    team_id       uuid not null references team,
    name          text not null,
    purpose       text not null default 'user' check (purpose in ('user', 'system')),
    dns           text[] not null default '{}',
    ips           inet[] not null default '{}',
    uris          text[] not null default '{}',
    emails        text[] not null default '{}',
    revision      bigint not null default 1,
    issuers       uuid[] not null default '{}',
    profile_id    uuid not null references profile,
    policy_id     uuid not null references renewal_policy,
    key_mode      text not null check (key_mode in ('agent', 'csr', 'imported')),
    sharing       text not null default '',
    owner         text not null default '',
    labels        jsonb not null default '{}',
    status        text not null,
    status_reason text not null default '',
    not_after     timestamptz,                 -- of the newest version
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    archived_at   timestamptz
) with (fillfactor = 75);
create unique index certificate_name on certificate (team_id, name) where archived_at is null;
create index certificate_dns on certificate using gin (dns);
-- Few certificates name addresses, URIs or e-mail addresses: the others cost nothing here.
create index certificate_ips on certificate using gin (ips) where ips <> '{}';
create index certificate_uris on certificate using gin (uris) where uris <> '{}';
create index certificate_emails on certificate using gin (emails) where emails <> '{}';
create index certificate_issuers on certificate using gin (issuers);
create index certificate_team on certificate (team_id, id);
create index certificate_name_prefix on certificate (name text_pattern_ops);
create index certificate_labels on certificate using gin (labels jsonb_path_ops);
create index certificate_status on certificate (status, id);
create index certificate_expiry on certificate (not_after, id);

create table holder (
    id             uuid primary key,
    certificate_id uuid not null references certificate,
    kind           text not null check (kind in ('agent', 'shared', 'client')),
    agent_id       uuid references agent,      -- kind agent
    version_id     uuid,                       -- the newest
    sealed_key     bytea,                      -- imported keys, under the "secrets" KEK
    created_at     timestamptz not null default now(),
    ended_at       timestamptz,
    unique nulls not distinct (certificate_id, kind, agent_id)
);

-- The members of a shared holder, and which key each was sealed.
create table holder_member (
    holder_id uuid not null references holder,
    agent_id  uuid not null references agent,
    sealed    bytea,                           -- the holder's key, sealed by its maker to this agent
    sealed_spki bytea,
    joined_at timestamptz not null default now(),
    left_at   timestamptz,
    primary key (holder_id, agent_id)
);

create table binding (
    id             uuid primary key,
    certificate_id uuid not null references certificate,
    target_id      uuid not null references target,
    holder_id      uuid references holder,
    place          text not null,
    slot           text not null default 'default',
    number         bigint not null default 0,  -- of the newest command sent for it
    remove         boolean not null default false,
    wait           text not null default '',   -- why it is not let go of now; see certctl.WaitReason
    created_at     timestamptz not null default now(),
    unbound_at     timestamptz,
    forgotten_at   timestamptz                 -- the agent has let go
);
create unique index binding_place on binding (target_id, place, slot) where unbound_at is null;
create index binding_certificate on binding (certificate_id);
create index binding_holder on binding (holder_id);

create table blocked_key (
    spki       bytea primary key,
    reason     text not null,
    created_at timestamptz not null default now()
);

-- +goose Down
drop table blocked_key, binding, holder_member, holder, certificate, target, join_use, join_token,
    agent_nonce, agent_contact, agent_key, agent, crl, authority, chain, issuer, renewal_policy, profile;
