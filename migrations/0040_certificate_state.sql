-- What a certificate costs: the status beside the certificate, references without triggers.

-- +goose Up

-- By what certificates are looked up and what changes with each renewal stands in
-- rows of its own: on certificate, each change of it made new entries in all ten
-- indexes. Triggers copy it, so that every writer keeps it true, also a server
-- that is one release older.
create table certificate_state (
    certificate_id uuid primary key,
    status         text not null,
    not_after      timestamptz
);
insert into certificate_state select id, status, not_after from certificate;
create index certificate_state_status on certificate_state (status, certificate_id);
create index certificate_state_expiry on certificate_state (not_after, certificate_id);
drop index certificate_status, certificate_expiry;

-- +goose StatementBegin
create function copy_certificate_state() returns trigger
    language plpgsql
    set enable_hashjoin = off set enable_mergejoin = off -- by key, whatever the tables looked like when this was planned
as $$
begin
    if tg_op = 'INSERT' then
        insert into certificate_state (certificate_id, status, not_after) select id, status, not_after from new_row;
    else
        update certificate_state s set status = n.status, not_after = n.not_after from new_row n
        where s.certificate_id = n.id and (s.status, s.not_after) is distinct from (n.status, n.not_after);
    end if;
    return null;
end $$;
-- +goose StatementEnd
create trigger certificate_state_insert after insert on certificate
    referencing new table as new_row for each statement execute function copy_certificate_state();
create trigger certificate_state_update after update on certificate
    referencing new table as new_row for each statement execute function copy_certificate_state();

-- A foreign key costs each row a query of its own, and locks the row it refers to,
-- which thousands share: two fifths of what recording a certificate took. Nothing
-- ever deletes what these refer to, and who writes them has read it in the same
-- transaction; CheckIntegrity proves it.
alter table certificate drop constraint certificate_team_id_fkey, drop constraint certificate_profile_id_fkey,
    drop constraint certificate_policy_id_fkey;
alter table holder drop constraint holder_certificate_id_fkey, drop constraint holder_agent_id_fkey;
alter table cert_order drop constraint cert_order_certificate_id_fkey, drop constraint cert_order_holder_id_fkey,
    drop constraint cert_order_issuer_id_fkey;
alter table attempt drop constraint attempt_order_id_fkey;
alter table version drop constraint version_certificate_id_fkey, drop constraint version_holder_id_fkey,
    drop constraint version_authority_id_fkey, drop constraint version_chain_digest_fkey;
alter table deployment drop constraint deployment_certificate_id_fkey, drop constraint deployment_binding_id_fkey,
    drop constraint deployment_target_id_fkey, drop constraint deployment_agent_id_fkey, drop constraint deployment_version_id_fkey;

-- Rows that are changed once or twice soon after they were made, a page of them in
-- one transaction: a page must have room for each row once more, or the change makes
-- new entries in all indexes.
alter table certificate set (fillfactor = 50);
alter table holder set (fillfactor = 50);
alter table cert_order set (fillfactor = 50);
alter table attempt set (fillfactor = 50);
alter table deployment set (fillfactor = 50);
alter table event_head set (fillfactor = 50);

-- Words of our own are compared byte by byte, not by the rules of a language, and
-- their form is the program's to keep.
alter table due drop constraint due_kind_check,
    alter column kind type text collate "C", alter column verb type text collate "C", alter column lane type text collate "C";

insert into schema_need (version, least) values (40, 37);

-- +goose Down
delete from schema_need where version = 40;
alter table due alter column kind type text, alter column verb type text, alter column lane type text,
    add constraint due_kind_check check (kind ~ '^[a-z_]{1,40}$');
alter table certificate set (fillfactor = 75);
alter table holder reset (fillfactor);
alter table cert_order set (fillfactor = 70);
alter table attempt set (fillfactor = 70);
alter table deployment set (fillfactor = 70);
alter table event_head set (fillfactor = 70);
alter table deployment add foreign key (certificate_id) references certificate, add foreign key (binding_id) references binding,
    add foreign key (target_id) references target, add foreign key (agent_id) references agent, add foreign key (version_id) references version;
alter table version add foreign key (certificate_id) references certificate, add foreign key (holder_id) references holder,
    add foreign key (authority_id) references authority, add foreign key (chain_digest) references chain;
alter table attempt add foreign key (order_id) references cert_order;
alter table cert_order add foreign key (certificate_id) references certificate, add foreign key (holder_id) references holder,
    add foreign key (issuer_id) references issuer;
alter table holder add foreign key (certificate_id) references certificate, add foreign key (agent_id) references agent;
alter table certificate add foreign key (team_id) references team, add foreign key (profile_id) references profile,
    add foreign key (policy_id) references renewal_policy;
drop trigger certificate_state_insert on certificate;
drop trigger certificate_state_update on certificate;
drop function copy_certificate_state();
create index certificate_status on certificate (status, id);
create index certificate_expiry on certificate (not_after, id);
drop table certificate_state;
