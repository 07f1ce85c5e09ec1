-- What a later migration asks of the servers that work on its schema: least is the
-- newest migration that they must know. A server finds its schema newer than
-- itself after a rollback, and starts when every row from its successors allows
-- it; a migration without a row asks for itself. The row is written by the
-- migration itself, so that it holds from the same commit on.

-- +goose Up
create table schema_need (
    version bigint primary key,
    least   bigint not null check (least <= version)
);

-- +goose Down
drop table schema_need;
