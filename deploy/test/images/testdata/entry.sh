#!/bin/sh
# What the image postgres does at its start: a new folder gets a database.
set -eu
[ "$1" = postgres ] || exec "$@"
data=/var/lib/postgresql/data
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s $data/PG_VERSION ]; then
	mkdir -p $data
	chown postgres:postgres $data
	chmod 0700 $data
	install -o postgres -m 0600 "$POSTGRES_PASSWORD_FILE" /tmp/password
	as initdb -D $data -U "$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
	rm /tmp/password
	echo "host all all all scram-sha-256" >>$data/pg_hba.conf
	echo "create database \"$POSTGRES_DB\"" | as postgres --single -D $data postgres
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
