-- What accounts at foreign CAs have used of what these give in a time.

-- +goose Up

create table external_use (
    account_id uuid not null references external_account,
    key        text not null,              -- orders, domain example.com, names <digest>, failures shop.example.com
    at         timestamptz not null,
    order_id   uuid not null,
    primary key (account_id, key, at, order_id)
);
create index external_use_order on external_use (order_id);
create index external_use_age on external_use (at);

-- +goose Down
drop table external_use;
