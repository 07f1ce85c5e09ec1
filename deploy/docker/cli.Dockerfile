# certctl: the command line.
FROM scratch
ARG TARGETARCH=amd64
COPY bin/linux-${TARGETARCH}/certctl /certctl
LABEL org.opencontainers.image.title="certctl" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 1000:1000
ENTRYPOINT ["/certctl"]
HEALTHCHECK NONE
