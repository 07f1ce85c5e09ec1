// Package acmetest runs a real ACME server for tests: Pebble, in this process,
// with a DNS server of its own that it asks, and with faults between it and its
// clients when a test wants some. No program links it.
package acmetest
