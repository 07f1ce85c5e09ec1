-- Compromised keys that agents are to erase; what attempts asked and when the
-- next one is; of which ends people were told; authorities that replace others.

-- +goose Up

create table key_erasure (
    id         uuid primary key,
    agent_id   uuid not null references agent,
    spki       bytea not null,
    number     bigint not null default 0,      -- of the command sent for it
    wait       text not null default '',       -- why it is not asked for now; see certctl.WaitReason
    code       text not null default '',       -- of the node's last refusal
    message    text not null default '',
    created_at timestamptz not null default now(),
    erased_at  timestamptz,
    unique (agent_id, spki)
);
create index key_erasure_spki on key_erasure (spki);

-- Which kinds there are is the store's knowledge.
alter table due drop constraint if exists due_kind_check;

alter table attempt
    add column csr_spki bytea,                  -- the key that was to be certified
    add column failure  text not null default '', -- see certctl.FailureKind
    add column retry_at timestamptz;            -- when the next attempt was to be
alter table cert_order add column waived int not null default 0; -- attempts that count no more for the back-off

-- Which thresholds of its policy a leaf has passed while it was served.
create table expiry_alert (
    version_id uuid not null references version,
    threshold  bigint not null,                -- nanoseconds
    at         timestamptz not null default now(),
    primary key (version_id, threshold)
);

-- An authority that is published and does not sign yet.
alter table authority drop constraint authority_state_check;
alter table authority add constraint authority_state_check check (state in ('requested', 'next', 'active', 'retiring', 'retired'));
alter table authority add column activate_at timestamptz; -- state next
create unique index authority_next on authority (issuer_id) where state = 'next';

-- +goose Down
drop index authority_next;
update authority set state = 'retired' where state = 'next';
alter table authority drop column activate_at;
alter table authority drop constraint authority_state_check;
alter table authority add constraint authority_state_check check (state in ('requested', 'active', 'retiring', 'retired'));
drop table expiry_alert;
alter table cert_order drop column waived;
alter table attempt drop column retry_at, drop column failure, drop column csr_spki;
delete from due where kind = 'alert';
delete from due where kind = 'erasure';
drop table key_erasure;
