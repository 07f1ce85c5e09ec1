-- Holders that went back to an earlier version.

-- +goose Up

-- The certificate's revision at which a person went back: it makes the holder due
-- no more, the next one does.
alter table holder add column kept_revision bigint not null default 0;

-- +goose Down
alter table holder drop column kept_revision;
