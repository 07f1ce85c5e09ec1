-- Revocations that wait until what they revoke is replaced.

-- +goose Up

alter table revocation
    drop constraint revocation_state_check,
    add constraint revocation_state_check check (state in
        ('waiting', 'requested', 'sent', 'confirmed', 'failed', 'not_supported', 'cancelled')),
    add column rollout_id uuid,                 -- that orders the replacement, if one does
    add column ordered_at timestamptz;          -- when the replacement was last ordered for it
-- They are few, and their certificates are asked for them.
create index revocation_waiting on revocation (version_id) where state = 'waiting';

alter table due
    drop constraint due_kind_check,
    add constraint due_kind_check check (kind in
        ('order', 'deployment', 'holder', 'revocation', 'crl', 'binding', 'system', 'rollout'));

-- +goose Down
delete from due where kind = 'rollout' or kind = 'revocation' and verb = 'replace';
alter table due
    drop constraint due_kind_check,
    add constraint due_kind_check check (kind in ('order', 'deployment', 'holder', 'revocation', 'crl', 'binding', 'system'));
drop index revocation_waiting;
delete from revocation where state in ('waiting', 'cancelled');
alter table revocation
    drop column ordered_at,
    drop column rollout_id,
    drop constraint revocation_state_check,
    add constraint revocation_state_check check (state in ('requested', 'sent', 'confirmed', 'failed', 'not_supported'));
