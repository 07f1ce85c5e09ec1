// Package broker runs NATS inside certctl-server, and writes what an external
// NATS needs to do the same. It is the only importer of nats-server.
//
// It guarantees that an embedded broker is configured like an external one:
// operator mode with four accounts, so that the same documents decide who may do
// what; TLS 1.3 for everybody who connects over the network; every acknowledged
// write synced to disk. What the broker holds may be lost at any time: PostgreSQL
// is the truth, and a wiped broker is filled again.
//
// It never holds a private key of the bus identity. It gets signed documents and
// applies newer ones; a document of another operator is refused. No monitoring
// port is opened.
//
//	Start ──> Ready ──> UpdateAccounts* ──> Shutdown (after the process's own
//	                                        connections have drained)
package broker
