#!/bin/sh
# A purge leaves /var/lib/certctl: it holds the key-encryption keys, without which no backup can be
# opened.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /etc/systemd/system/certctl-server.service.d
	[ ! -d /var/lib/certctl ] || echo "/var/lib/certctl is left as it is" >&2
fi
