-- What holds ordinary changes back: freezes, paused certificates.

-- +goose Up

create table change_freeze (
    id         uuid primary key,
    name       text not null,
    reason     text not null default '',
    labels     jsonb not null default '{}',   -- certificates that carry all of them
    hard       boolean not null,
    starts_at  timestamptz not null,
    ends_at    timestamptz,                    -- null: until somebody ends it
    ended_at   timestamptz,                    -- by hand
    creator    text not null,
    created_at timestamptz not null default now()
);
create unique index freeze_name on change_freeze (name) where ended_at is null;

alter table certificate add column paused boolean not null default false;
alter table cert_order add column override text not null default ''; -- why it was asked for during a freeze

-- +goose Down
alter table cert_order drop column override;
alter table certificate drop column paused;
drop table change_freeze;
