# Stands in for the image prom/prometheus: Debian's.
FROM postgres:17-alpine
COPY prometheus /usr/bin/prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
