# Stands in for the image curlimages/curl: Debian's curl and shell, and an entry
# point and a command that an image on top of it has to replace.
FROM postgres:17-alpine
USER 100
WORKDIR /tmp
ENTRYPOINT ["/bin/false"]
CMD ["curl"]
