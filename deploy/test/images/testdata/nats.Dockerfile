# Stands in for the image nats.
FROM scratch
COPY nats-server /nats-server
ENTRYPOINT ["/nats-server"]
