# Pebble, Let's Encrypt's CA for tests, of the version in go.mod; for
# deploy/compose/test.yml. `./task images` makes the binary.
FROM scratch
ARG TARGETARCH=amd64
COPY bin/linux-${TARGETARCH}/pebble /pebble
USER 1000:1000
ENTRYPOINT ["/pebble"]
HEALTHCHECK NONE
