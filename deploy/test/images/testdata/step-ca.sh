#!/bin/sh
# What the image smallstep/step-ca does at its start: an empty folder gets a CA.
set -eu
if [ ! -e "$STEPPATH/config/ca.json" ]; then
	[ "$DOCKER_STEPCA_INIT_ACME" = true ]
	mkdir -p "$STEPPATH/secrets"
	(umask 077 && od -An -N20 -tx1 /dev/urandom | tr -d ' \n' >"$STEPPATH/secrets/password")
	step ca init --name "$DOCKER_STEPCA_INIT_NAME" --dns "$DOCKER_STEPCA_INIT_DNS_NAMES" --provisioner admin \
		--password-file "$STEPPATH/secrets/password" --address :9000 --acme
fi
exec "$@"
