# Stands in for the images postgres, nginx and knot, which a test machine cannot pull:
# the same programs from Debian's packages, with as much of the images' contract
# as docker-compose.yml relies on.
FROM scratch
ADD rootfs.tar /
COPY entry.sh /entry.sh
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/bin/sh", "/entry.sh"]
CMD ["postgres"]
