# certctl-agent: one node's keys and certificates. With CERTCTL_SERVER,
# CERTCTL_TOKEN_FILE and CERTCTL_CA_FILE it enrols by itself at its first start.
FROM scratch
ARG TARGETARCH=amd64
COPY --chown=1000:1000 bin/root/agent/ /
COPY bin/linux-${TARGETARCH}/certctl-agent /certctl-agent
LABEL org.opencontainers.image.title="certctl-agent" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 1000:1000
ENTRYPOINT ["/certctl-agent"]
CMD ["run"]
# Reads the live state of the running agent, and fails when there is none.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/certctl-agent", "health"]
