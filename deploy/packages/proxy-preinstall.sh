#!/bin/sh
# Makes the proxy's user, whom files of the package belong to.
set -e
if ! getent group certctl-proxy >/dev/null; then
	groupadd --system certctl-proxy
fi
if ! getent passwd certctl-proxy >/dev/null; then
	useradd --system --gid certctl-proxy --home-dir /var/lib/certctl-proxy --no-create-home --shell /usr/sbin/nologin certctl-proxy
fi
