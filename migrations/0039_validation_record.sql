-- TXT records that prove names for as long as they stand (dns-persist-01): what
-- somebody is to publish, and what was found. An older server leaves them alone.

-- +goose Up
create table validation_record (
    id             uuid primary key,
    certificate_id uuid not null references certificate on delete cascade,
    issuer_id      uuid not null references issuer on delete cascade,
    name           text not null,              -- without *.
    record         text not null,
    value          text not null,
    terms          jsonb not null,             -- certctl.RecordTerms
    state          text not null,              -- certctl.RecordState
    until          timestamptz,                -- its persistUntil
    message        text not null default '',
    checked_at     timestamptz,
    failures       int not null default 0,
    told           bigint not null default 0,  -- certctl.Duration: the shortest alert before its end that people were told
    unique (certificate_id, issuer_id, name)
) with (fillfactor = 70);
create index on validation_record (issuer_id);
insert into schema_need (version, least) values (39, 37);

-- +goose Down
delete from schema_need where version = 39;
delete from due where kind = 'validation_record';
drop table validation_record;
