#!/bin/sh
# A purge leaves /var/lib/certctl-agent and /etc/certctl/live: daemons may serve what is there.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /etc/systemd/system/certctl-agent.service.d
	echo "/var/lib/certctl-agent and /etc/certctl/live left as it is" >&2
fi
