// Package chaos breaks a fleet of certctl on purpose, under a load of
// submissions, and holds what is left against what certctl promises.
//
// Everything is real: separate processes of servers and agents, PostgreSQL with
// fsync on, NATS, and proxies between them that cut and delay. Each scenario
// injects its faults while submissions go on, heals, and then waits until all
// that was accepted is done. Afterwards nothing may be lost, nothing done twice,
// no event missing, and the nodes must have what the API says; certctl's own
// check (certctl-server check) must be content, too.
//
// What is broken when is drawn from a seed, which is printed and can be set.
// Timing is not: the same seed breaks the same things at the same moments of
// the clock, while the processes are where they happen to be.
package chaos
