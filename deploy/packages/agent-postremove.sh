#!/bin/sh
# A purge leaves /var/lib/certctl-agent and /etc/certctl/live: daemons may serve what is there.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /etc/systemd/system/certctl-agent.service.d
	for left in /var/lib/certctl-agent /etc/certctl/live; do
		[ ! -d "$left" ] || echo "$left is left as it is" >&2
	done
fi
