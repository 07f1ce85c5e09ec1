# Stands in for the image haproxy: Debian's, where that one has it.
FROM postgres:17-alpine
RUN ln -s /usr/sbin/haproxy /usr/local/sbin/haproxy
