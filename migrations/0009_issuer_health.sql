-- How issuers are doing, and how often they may be asked.

-- +goose Up

alter table issuer
    add column outages     int not null default 0,      -- in a row: it did not answer
    add column down_since  timestamptz,
    add column probe_at    timestamptz,                 -- while down: when one order may try again
    add column rate_count  int not null default 0,      -- attempts per rate_period over all replicas; 0: no limit
    add column rate_period bigint not null default 0;   -- nanoseconds

-- When issuers with a rate were asked.
create table issuer_use (
    issuer_id uuid not null references issuer,
    at        timestamptz not null,
    order_id  uuid not null,
    primary key (issuer_id, at, order_id)
);

-- +goose Down
drop table issuer_use;
alter table issuer drop column rate_period, drop column rate_count, drop column probe_at, drop column down_since, drop column outages;
