-- The event log: the record of what happened, and the audit log.

-- +goose Up

-- The smallest UUIDv7 of a moment: events are partitioned by their id, whose
-- first 48 bits are the millisecond, so that the key alone finds its partition.
-- +goose StatementBegin
create function uuid7_floor(moment timestamptz) returns uuid
    language sql immutable strict parallel safe
return (lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
-- +goose StatementEnd

create table event (
    id         uuid not null,
    team_id    uuid not null,
    aggregate  text not null,
    object_id  uuid not null,
    sequence   bigint not null,
    name       text not null,
    actor      text not null,
    outcome    text not null,
    trace      text not null default '',
    body       bytea not null,                 -- canonical bytes: exactly what is published
    sha256     bytea not null,
    primary key (id)
) partition by range (id);
create index event_object on event (object_id, sequence);
create index event_name on event (name, id);

-- Catches what no month was made for, so that an insert never fails for it.
create table event_default partition of event default;

-- +goose StatementBegin
create function make_event_partition(month date) returns void
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

select make_event_partition((now() at time zone 'UTC')::date);
select make_event_partition(((now() at time zone 'UTC') + interval '1 month')::date);
select make_event_partition(((now() at time zone 'UTC') + interval '2 months')::date);

-- Nobody changes what happened: not the application, and not by accident.
-- +goose StatementBegin
create function refuse_event_change() returns trigger
    language plpgsql as $$
begin
    raise exception 'events are append-only';
end $$;
-- +goose StatementEnd
create trigger event_append_only before update or delete or truncate on event
    for each statement execute function refuse_event_change();

-- The newest sequence of each object, so that readers can see a gap.
create table event_head (
    object_id uuid primary key,
    sequence  bigint not null
) with (fillfactor = 70);

-- Events that are not yet on the bus. Rows are claimed and deleted, never
-- passed by a cursor: ids become visible out of order.
create table event_out (
    id        uuid primary key,
    aside_at  timestamptz,                     -- set aside: cannot be published
    reason    text not null default ''
);

-- +goose Down
drop table event_out, event_head, event;
drop function refuse_event_change(), make_event_partition(date), uuid7_floor(timestamptz);
