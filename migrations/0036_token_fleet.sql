-- A join token of a fleet may replace agents of that fleet only, and only while
-- they are off line: it lies where many nodes read it, as a chart's does. Its
-- replace is false, so that servers that do not know fleets replace nobody by it.

-- +goose Up
alter table join_token add column fleet text not null default '';
alter table agent add column fleet text not null default '';
insert into schema_need (version, least) values (36, 35);

-- +goose Down
delete from schema_need where version = 36;
alter table agent drop column fleet;
alter table join_token drop column fleet;
