# certctl-proxy: the keys and certificates of hosts without an agent. With
# CERTCTL_SERVER, CERTCTL_TOKEN_FILE and CERTCTL_CA_FILE it enrols by itself at its
# first start; /etc/certctl/proxy-policy.yaml says which hosts it may change.
FROM scratch
ARG TARGETARCH=amd64
COPY --chown=1000:1000 bin/root/proxy/ /
COPY bin/linux-${TARGETARCH}/certctl-proxy /certctl-proxy
LABEL org.opencontainers.image.title="certctl-proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 1000:1000
ENTRYPOINT ["/certctl-proxy"]
CMD ["run"]
# Reads the live state of the running proxy, and fails when there is none.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/certctl-proxy", "health"]
