# certctl-server with a shell and curl, for workers that run DNS scripts: the tag of
# certctl-server with -shell. Nothing else of the platform needs an interpreter.
FROM curlimages/curl:8.16.0
ARG TARGETARCH=amd64
COPY --chown=1000:1000 bin/root/server/ /
COPY bin/linux-${TARGETARCH}/certctl-server /certctl-server
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="certctl-server" \
      org.opencontainers.image.description="The certctl platform, with a shell and curl for DNS scripts" \
      org.opencontainers.image.url="https://github.com/certctl/certctl" \
      org.opencontainers.image.source="https://github.com/certctl/certctl" \
      org.opencontainers.image.documentation="https://github.com/certctl/certctl/tree/main/docs" \
      org.opencontainers.image.vendor="certctl" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
WORKDIR /
ENV CERTCTL_LISTEN=0.0.0.0:8443 \
    CERTCTL_DEBUG_LISTEN=127.0.0.1:8090
USER 1000:1000
EXPOSE 8443
ENTRYPOINT ["/certctl-server"]
# Asks the API over https, and a process without the API whether it can work.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/certctl-server", "health"]
