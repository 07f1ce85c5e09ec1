-- By what certificates are looked up and what changes with each renewal.

-- +goose Up

-- No change of a certificate may come between the copy and the triggers. What waits
-- for us in turn is not to wait for long: who migrates tries again.
set local lock_timeout = '500ms';
lock table certificate in share row exclusive mode;

-- The status stands in rows of its own: on certificate, each change of it made new
-- entries in all ten indexes. Triggers copy it, so that every writer keeps it true,
-- also a server that is one release older.
create table certificate_state (
    certificate_id uuid primary key,
    status         text not null,
    not_after      timestamptz
);
insert into certificate_state select id, status, not_after from certificate;
create index certificate_state_status on certificate_state (status, certificate_id);
create index certificate_state_expiry on certificate_state (not_after, certificate_id);

-- +goose StatementBegin
create function copy_certificate_state() returns trigger
    language plpgsql
    set search_path from current
    set enable_hashjoin = off set enable_mergejoin = off -- by key, whatever the tables looked like when this was planned
as $$
begin
    insert into certificate_state as s (certificate_id, status, not_after) select id, status, not_after from new_row
    on conflict (certificate_id) do update set status = excluded.status, not_after = excluded.not_after
        where (s.status, s.not_after) is distinct from (excluded.status, excluded.not_after);
    return null;
end $$;
-- +goose StatementEnd
create trigger certificate_state_insert after insert on certificate
    referencing new table as new_row for each statement execute function copy_certificate_state();
create trigger certificate_state_update after update on certificate
    referencing new table as new_row for each statement execute function copy_certificate_state();
drop index certificate_status, certificate_expiry;

insert into schema_need (version, least) values (40, 37);

-- +goose Down
delete from schema_need where version = 40;
drop trigger certificate_state_insert on certificate;
drop trigger certificate_state_update on certificate;
drop function copy_certificate_state();
create index certificate_status on certificate (status, id);
create index certificate_expiry on certificate (not_after, id);
drop table certificate_state;
