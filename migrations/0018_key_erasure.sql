-- Compromised keys that agents are to erase.

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

-- +goose Down
delete from due where kind = 'erasure';
drop table key_erasure;
