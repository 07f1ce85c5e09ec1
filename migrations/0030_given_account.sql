-- Accounts at CAs that another client has registered: they are looked up by their
-- key, never registered.

-- +goose Up
alter table external_account add column given boolean not null default false;

-- +goose Down
alter table external_account drop column given;
