-- Who is told of what, and what has been told.

-- +goose Up

create table channel (
    id           uuid primary key,
    team_id      uuid not null references team,
    name         text not null,
    kind         text not null,
    settings     jsonb not null,
    sealed       bytea,                           -- secrets, under the "secrets" KEK
    digest_at    text not null default '',        -- HH:MM; empty: at once
    digest_zone  text not null default '',
    number       bigint not null default 0,       -- of its deliveries
    busy_until   timestamptz,                     -- while one is under way
    wait_until   timestamptz,                     -- after one that failed
    failures     int not null default 0,          -- in a row
    message      text not null default '',
    delivered_at timestamptz,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    archived_at  timestamptz
);
create unique index channel_name on channel (team_id, name) where archived_at is null;

-- What a channel is told: the rows of its live rules.
create table channel_rule (
    channel_id uuid not null references channel,
    n          smallint not null,
    events     text[] not null,                   -- empty: all
    severity   smallint not null,                 -- at least
    labels     jsonb not null,
    owner      text not null,
    team       text not null,                     -- empty: all
    primary key (channel_id, n)
);

-- Which troubles a channel was told of and has not heard the end of.
create table channel_trouble (
    object_id  uuid not null,
    key        text not null,
    channel_id uuid not null references channel,
    severity   smallint not null,
    event_id   uuid not null,                     -- that told of it last
    told_at    timestamptz not null default now(),
    primary key (object_id, key, channel_id)
);

-- The duty to tell a channel of an event, written with the event.
create table notification (
    id           uuid primary key,
    channel_id   uuid not null references channel,
    event_id     uuid not null,
    severity     smallint not null,
    ends         boolean not null,                -- the event ends a trouble
    keys         text[] not null,                 -- of the troubles that it begins or ends
    state        text not null default 'pending' check (state in ('pending', 'delivered', 'failed', 'discarded')),
    tries        int not null default 0,
    message      text not null default '',
    created_at   timestamptz not null default now(),
    delivered_at timestamptz,
    closed_at    timestamptz,                     -- delivered or discarded
    unique (event_id, channel_id)
);
create index notification_pending on notification (channel_id, id) where state = 'pending';
create index notification_channel on notification (channel_id, id);

-- A new UUIDv7 of the transaction's time.
-- +goose StatementBegin
create function uuid7() returns uuid
    language sql volatile parallel safe
return overlay(gen_random_uuid()::text placing left(uuid7_floor(now())::text, 15) from 1 for 15)::uuid;
-- +goose StatementEnd

-- When a channel is to be told next: at once, after a wait, or at its time of day.
-- +goose StatementBegin
create function channel_due(c channel) returns timestamptz
    language sql stable parallel safe
return case when c.digest_at = '' then greatest(now(), c.wait_until)
    else greatest(((now() at time zone c.digest_zone)::date + c.digest_at::time
        + case when (now() at time zone c.digest_zone)::time >= c.digest_at::time then interval '1 day' else interval '0' end)
        at time zone c.digest_zone, c.wait_until) end;
-- +goose StatementEnd

-- +goose Down
delete from due where kind = 'notification';
drop function channel_due(channel), uuid7();
drop table notification, channel_trouble, channel_rule, channel;
