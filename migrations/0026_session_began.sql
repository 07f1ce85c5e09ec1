-- When the session of an agent that counts began, by the agent's own clock: what
-- a superseded one said before then says nothing about who runs now.

-- +goose Up
alter table agent_contact add column session_began timestamptz;

-- +goose Down
alter table agent_contact drop column session_began;
