-- The profile that an order was made with is stored once, not with each order.

-- +goose Up
create table profile_snapshot (
    digest bytea primary key,                  -- SHA-256 of the text that body was made of
    body   jsonb not null                      -- certctl.Profile as it was
);
alter table cert_order
    alter column profile drop not null,        -- orders from before have theirs here
    add column profile_digest bytea;

-- A server that knows no snapshots could not read the orders of one that does.
insert into schema_need (version, least) values (41, 41);

-- +goose Down
delete from schema_need where version = 41;
update cert_order o set profile = s.body from profile_snapshot s where o.profile is null and s.digest = o.profile_digest;
alter table cert_order
    drop column profile_digest,
    alter column profile set not null;
drop table profile_snapshot;
