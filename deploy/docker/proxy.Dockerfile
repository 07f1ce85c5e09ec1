# certctl-proxy: the keys and certificates of hosts without an agent. With
# CERTCTL_SERVER, CERTCTL_TOKEN_FILE and CERTCTL_CA_FILE it enrols by itself at its
# first start; /etc/certctl/proxy-policy.yaml says which hosts it may change.
FROM scratch
ARG TARGETARCH=amd64
COPY --chown=1000:1000 bin/root/proxy/ /
COPY bin/linux-${TARGETARCH}/certctl-proxy /certctl-proxy
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="certctl-proxy" \
      org.opencontainers.image.description="Keys and certificates of hosts without an agent" \
      org.opencontainers.image.url="https://github.com/certctl/certctl" \
      org.opencontainers.image.source="https://github.com/certctl/certctl" \
      org.opencontainers.image.documentation="https://github.com/certctl/certctl/tree/main/docs" \
      org.opencontainers.image.vendor="certctl" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 1000:1000
ENTRYPOINT ["/certctl-proxy"]
CMD ["run"]
# Reads the live state of the running proxy, and fails when there is none.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/certctl-proxy", "health"]
