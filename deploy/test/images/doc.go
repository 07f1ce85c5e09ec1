// Package images holds the tests of the container images and of
// docker-compose.yml: the images are built, the stack is started, and a process in
// it is stopped to see that its health check notices. They need a container engine
// and are built with the tag engine, by ./task test:all.
//
// The engine is a dockerd of its own in a network namespace of its own. Where the
// stack names images that a test machine cannot pull, stand-ins of the same names
// are made from Debian's packages.
package images
