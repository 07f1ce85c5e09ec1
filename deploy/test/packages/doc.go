// Package packages holds the tests of the ways in which certctl gets onto a
// machine without containers: systemd units, Debian and RPM packages, releases and
// deploy/install-agent.sh. Units are held against systemd's own checks, packages
// are installed and purged in a Debian made for it, and a release is built twice.
// They take root and minutes, and are built with the tag engine, by ./task test:all.
package packages
