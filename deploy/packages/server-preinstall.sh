#!/bin/sh
# Makes the server's user, whom files of the package belong to.
set -e
if ! getent group certctl >/dev/null; then
	groupadd --system certctl
fi
if ! getent passwd certctl >/dev/null; then
	useradd --system --gid certctl --home-dir /var/lib/certctl --no-create-home --shell /usr/sbin/nologin certctl
fi
