-- Readers may have single events as filters (certificate.certificate_issued), which
-- an older server makes into a subject that matches nothing: it would lose them
-- their events.

-- +goose Up
insert into schema_need (version, least) values (37, 37);

-- +goose Down
delete from schema_need where version = 37;
