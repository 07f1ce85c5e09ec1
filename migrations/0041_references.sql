-- What the rows of a certificate cost.

-- +goose Up

-- All locks at once, in the order in which transactions take them. None is waited for
-- as long as would make PostgreSQL look for a deadlock: who migrates tries again.
set local lock_timeout = '500ms';
lock table team, profile, renewal_policy, issuer, agent, authority, chain, target, certificate, holder, binding,
    cert_order, attempt, version, deployment, due in access exclusive mode;

-- A foreign key costs each row a query of its own, and locks the row it refers to,
-- which thousands share: two fifths of what recording a certificate took. Nothing
-- ever deletes what these refer to, and who writes them has read it in the same
-- transaction; CheckIntegrity proves it (docs/adr/0010).
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

-- The form of these words is the program's to keep.
alter table due drop constraint due_kind_check;

-- Rows that are changed once or twice soon after they were made, a page of them in
-- one transaction: a page must have room for each row once more, or the change makes
-- new entries in all indexes.
alter table certificate set (fillfactor = 50);
alter table holder set (fillfactor = 50);
alter table cert_order set (fillfactor = 50);
alter table attempt set (fillfactor = 50);
alter table deployment set (fillfactor = 50);
alter table event_head set (fillfactor = 50);

insert into schema_need (version, least) values (41, 37);

-- +goose Down
delete from schema_need where version = 41;
alter table certificate set (fillfactor = 75);
alter table holder reset (fillfactor);
alter table cert_order set (fillfactor = 70);
alter table attempt set (fillfactor = 70);
alter table deployment set (fillfactor = 70);
alter table event_head set (fillfactor = 70);
alter table due add constraint due_kind_check check (kind ~ '^[a-z_]{1,40}$');
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
