// Package fleet simulates agents in large numbers: each has its own keys, its own
// enrolment, its own TLS connection to the bus with its own credentials, and signs
// what it says. They make keys and report requests and receipts, but touch no
// disk. One process holds as many as it may open files, less what the broker of
// the same process needs: thousands.
//
// The fault suite lets them all come back at once; benchmarks give them work.
package fleet
