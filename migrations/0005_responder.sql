-- OCSP responders: one delegated certificate and key per authority.

-- +goose Up

create table responder (
    authority_id uuid primary key references authority,
    certificate  bytea not null,
    sealed_key   bytea not null,              -- under the "pki" KEK
    not_before   timestamptz not null,
    not_after    timestamptz not null,
    updated_at   timestamptz not null default now()
);

-- +goose Down
drop table responder;
