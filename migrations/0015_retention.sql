-- How far back the history goes, and how it is cut off.

-- +goose Up

-- From when on everything of a kind is there: what is older may have been swept.
create table retention_horizon (
    kind text primary key,
    at   timestamptz not null
);

-- Up to which sequence number an object's events may have been dropped.
alter table event_head add column dropped bigint not null default 0;

-- A version remembers its order's id after the order has been swept. (The key
-- would also make each sweep look through all versions.)
alter table version drop constraint version_order_id_fkey;

-- As before, and one process at a time; what has gathered in event_default for
-- the month moves into its partition.
-- +goose StatementBegin
create or replace function make_event_partition(month date) returns void
    language plpgsql as $$
declare
    first date := date_trunc('month', month);
    name  text := 'event_' || to_char(first, 'YYYYMM');
    low   uuid := uuid7_floor(first::timestamp at time zone 'UTC');
    high  uuid := uuid7_floor((first + interval '1 month')::timestamp at time zone 'UTC');
begin
    if to_regclass(name) is not null then
        return;
    end if;
    -- Only taking a table's lock makes a session see what others have made.
    lock table event_default in access exclusive mode;
    if to_regclass(name) is not null then
        return;
    end if;
    execute format('create table %I (like event including defaults including constraints)', name);
    execute format('with moved as (delete from event_default where id >= %L and id < %L returning *)
        insert into %I select * from moved', low, high, name);
    execute format('alter table event attach partition %I for values from (%L) to (%L)', name, low, high);
end $$;
-- +goose StatementEnd

-- +goose Down

-- +goose StatementBegin
create or replace function make_event_partition(month date) returns void
    language plpgsql as $$
declare
    first date := date_trunc('month', month);
    name  text := 'event_' || to_char(first, 'YYYYMM');
begin
    if to_regclass(name) is null then
        execute format('create table %I partition of event for values from (%L) to (%L)',
            name, uuid7_floor(first::timestamp at time zone 'UTC'),
            uuid7_floor((first + interval '1 month')::timestamp at time zone 'UTC'));
    end if;
end $$;
-- +goose StatementEnd

update version v set order_id = null where order_id is not null and not exists (select from cert_order where id = v.order_id);
alter table version add constraint version_order_id_fkey foreign key (order_id) references cert_order;
alter table event_head drop column dropped;
drop table retention_horizon;
