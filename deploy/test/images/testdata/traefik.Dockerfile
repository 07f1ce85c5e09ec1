# Stands in for the image traefik: a program of ours, see ../traefik.
FROM postgres:17-alpine
COPY traefik /usr/local/bin/traefik
ENTRYPOINT ["/usr/local/bin/traefik"]
