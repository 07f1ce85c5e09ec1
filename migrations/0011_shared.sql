-- One key for several agents.

-- +goose Up

alter table issuer
    add column duplicates_count  int not null default 0,    -- leaves with the same names per duplicates_period; 0: no limit
    add column duplicates_period bigint not null default 0, -- nanoseconds
    add column priced            boolean not null default false;

alter table certificate
    add column sharing_chosen boolean not null default false; -- by a person; else it follows from issuers and agents

alter table holder
    add column rekey_at     timestamptz,               -- kind shared: who may know the keys ordered until then has left
    add column share_number bigint not null default 0; -- of the command to share that is not answered yet

-- A key may be on its way to members while the next one is made already: who has
-- which key is a table of its own.
alter table holder_member
    drop column sealed,
    drop column sealed_spki,
    add column refused text not null default ''; -- why the one that seals the newest key did not seal it for this member
create index holder_member_agent on holder_member (agent_id) where left_at is null;

create table member_key (
    holder_id  uuid not null,
    agent_id   uuid not null,
    spki       bytea not null,
    sealed     bytea,                          -- by another member, to this one; null once it has the key
    number     bigint not null default 0,      -- which the ciphertext is bound to
    held_at    timestamptz,                    -- since when it is known to have the key
    created_at timestamptz not null default now(),
    primary key (holder_id, agent_id, spki),
    foreign key (holder_id, agent_id) references holder_member,
    check ((sealed is null) = (held_at is not null))
);

alter table cert_order add column maker_id uuid references agent; -- which member of a shared holder makes the key

alter table due drop constraint due_kind_check;
alter table due add constraint due_kind_check
    check (kind in ('order', 'deployment', 'holder', 'revocation', 'crl', 'binding', 'system', 'share'));

-- +goose Down
delete from due where kind = 'share';
alter table due drop constraint due_kind_check;
alter table due add constraint due_kind_check
    check (kind in ('order', 'deployment', 'holder', 'revocation', 'crl', 'binding', 'system'));
alter table cert_order drop column maker_id;
drop table member_key;
drop index holder_member_agent;
alter table holder_member drop column refused, add column sealed_spki bytea, add column sealed bytea;
alter table holder drop column share_number, drop column rekey_at;
alter table certificate drop column sharing_chosen;
alter table issuer drop column priced, drop column duplicates_period, drop column duplicates_count;
