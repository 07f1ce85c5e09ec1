#!/bin/sh
# Stops the unit when the package goes (Debian says remove, RPM 0), not when
# another release of it comes.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	# A program without a package must not run on: this one may fail.
	systemctl --no-reload disable --now certctl-proxy.service
elif command -v systemctl >/dev/null; then
	systemctl disable certctl-proxy.service
fi
