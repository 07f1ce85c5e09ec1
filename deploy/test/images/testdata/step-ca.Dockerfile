# Stands in for the image smallstep/step-ca: its two programs, built from their
# modules, with as much of the image's contract as the example relies on.
FROM postgres:17-alpine
COPY step step-ca /usr/local/bin/
COPY step-ca.sh /step-ca.sh
RUN setcap CAP_NET_BIND_SERVICE=+eip /usr/local/bin/step-ca && install -d -o 1000 -g 1000 /home/step
ENV STEPPATH=/home/step HOME=/home/step PATH=/usr/local/bin:/usr/bin:/bin
VOLUME /home/step
USER 1000:1000
ENTRYPOINT ["/bin/sh", "/step-ca.sh"]
CMD ["step-ca", "--password-file", "/home/step/secrets/password", "/home/step/config/ca.json"]
