// Package local runs the programs that certctl needs on one machine, each as a
// private child: PostgreSQL, nginx, HAProxy, and certctl's own binaries. The
// launcher of `./task up` and the tests use it.
//
// It guarantees:
//
//   - A child lives in a process group of its own, so that a terminal's Ctrl-C
//     reaches only the launcher, which then stops its children in reverse order
//     of their start ([Stack]). When a child ends, what is left of its group
//     ends too.
//   - On Linux a child does not outlive the program that started it, however
//     that one ends.
//   - A child that was started is ready: Start of a daemon returns when it takes
//     connections, or with the last lines of its log.
//   - All state of a daemon is in the folder that the caller names. The one
//     exception is a PostgreSQL folder that the database's user cannot reach;
//     [Postgres] says where it goes then.
//   - Nothing listens on anything but loopback and unix sockets.
//
// It never touches a service of the system, never signals a process that it did
// not start, and needs nothing but the standard library.
package local
