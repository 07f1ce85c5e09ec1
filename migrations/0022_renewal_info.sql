-- What CAs say about when their leaves are to be renewed (RFC 9773).

-- +goose Up

create table renewal_info (
    version_id      uuid primary key references version,
    window_start    timestamptz,               -- null: the CA suggests none
    window_end      timestamptz,
    renew_at        timestamptz,               -- drawn from the window when it was first seen
    policy_at       timestamptz,               -- when the policy alone would renew; null: never
    recalled_at     timestamptz,               -- the CA wants it replaced at once
    explanation_url text not null default '',
    checked_at      timestamptz,               -- the last answer
    failures        int not null default 0,    -- since then
    message         text not null default ''   -- why there was no answer
) with (fillfactor = 70);

-- When a recall was last found, and all others of the issuer were asked about.
alter table issuer add column recalled_at timestamptz;

-- Leaves that are there already are asked about within the hour.
insert into due (kind, id, verb, lane, urgency, due_at)
select 'renewal_info', v.id, 'renewal_info', v.issuer_id::text, 2, now() + random() * interval '1 hour'
from holder h join version v on v.id = h.version_id join issuer i on i.id = v.issuer_id
where h.ended_at is null and i.kind = 'acme';

-- +goose Down
delete from due where kind = 'renewal_info';
alter table issuer drop column recalled_at;
drop table renewal_info;
