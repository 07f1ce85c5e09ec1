# certctl: the command line.
FROM scratch
ARG TARGETARCH=amd64
COPY bin/linux-${TARGETARCH}/certctl /certctl
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="certctl" \
      org.opencontainers.image.description="The command line of certctl" \
      org.opencontainers.image.url="https://github.com/certctl/certctl" \
      org.opencontainers.image.source="https://github.com/certctl/certctl" \
      org.opencontainers.image.documentation="https://github.com/certctl/certctl/tree/main/docs" \
      org.opencontainers.image.vendor="certctl" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 1000:1000
ENTRYPOINT ["/certctl"]
HEALTHCHECK NONE
