-- Proofs that agents hold on their nodes, where a CA looks for them: one row for
-- each agent that an order at a CA has answer for it.

-- +goose Up

create table node_proof (
    id              uuid primary key,
    external_id     uuid not null references external_order on delete cascade,
    agent_id        uuid not null references agent,
    number          bigint not null,           -- of the newest command
    proofs          jsonb not null,            -- a list of certctl.Proof
    held_at         timestamptz,               -- when the agent said that it holds them
    refusal         jsonb,                     -- certctl.Refusal: why it does not
    refused_session bigint not null default 0, -- its run that has said so: another one is asked anew
    created_at      timestamptz not null default now(),
    unique (external_id, agent_id)
);
create index node_proof_agent on node_proof (agent_id);

-- +goose Down
delete from due where kind = 'proof';
drop table node_proof;
