-- Attempts that go on at a CA while no worker works on them.

-- +goose Up

alter table attempt add column paused boolean not null default false; -- nobody's until the order is due

-- +goose Down
alter table attempt drop column paused;
