-- What a CA that is not ours knows of us: accounts, orders under way, proofs.

-- +goose Up

create table external_account (
    id         uuid primary key,
    issuer_id  uuid not null references issuer,
    directory  text not null,              -- URL: another server is another account
    sealed_key bytea not null,             -- under the "secrets" KEK; here before the CA hears of it
    url        text not null default '',   -- the CA's name for it; '' until registered
    contact    text[] not null default '{}',
    created_at timestamptz not null default now(),
    unique (issuer_id, directory)
);

-- An order at a CA. It outlives the attempt that made it until it is settled
-- there; meanwhile no other order asks the same account for the same names, since
-- CAs merge such orders.
create table external_order (
    id           uuid primary key,
    account_id   uuid not null references external_account,
    names        bytea not null,           -- digest of the set of names
    issuer_id    uuid not null references issuer,
    order_id     uuid not null references cert_order,
    abandoned_at timestamptz,              -- nobody wants it any more: to be ended at the CA
    tries        int not null default 0,   -- to end it
    created_at   timestamptz not null default now(),
    unique (account_id, names)
);
create index external_order_order on external_order (order_id);

-- Proofs that any replica answers with over HTTP. A row goes with its order.
create table challenge_token (
    token       text primary key,
    answer      text not null,
    external_id uuid not null references external_order on delete cascade,
    created_at  timestamptz not null default now()
);
create index challenge_token_external on challenge_token (external_id);

-- The kinds are constants of store/due.go: parts of the program add their own.
alter table due drop constraint if exists due_kind_check;
alter table due add constraint due_kind_check check (kind ~ '^[a-z_]{1,40}$');

-- +goose Down
delete from due where kind = 'external_order';
drop table challenge_token, external_order, external_account;
