-- Requests that agents hand over for their holders' next keys.

-- +goose Up

-- Of kind agent only. The key has not been in service: it may be certified until
-- a receipt for a leaf of it arrives.
alter table holder
    add column next_csr      bytea,
    add column next_spki     bytea,
    add column next_agent_id uuid references agent; -- who has the key

-- +goose Down
alter table holder drop column next_agent_id, drop column next_spki, drop column next_csr;
