-- What objects were made by a declaration, so that it is not done again.

-- +goose Up

create table declaration (
    noun        text not null,
    name        text not null,
    digest      bytea not null,               -- of what was declared, derived so that secrets in it cannot be guessed
    declared_at timestamptz not null default now(),
    primary key (noun, name)
);

-- +goose Down
drop table declaration;
