// Package sds hands out certificates over gRPC as Envoy's secret discovery service
// (envoy.service.secret.v3), state of the world and incremental, at a socket of this
// node. Nothing of it is linked by certctl-agent or certctl-server: the types of that
// protocol are large.
//
//	kernel: who is it ─► refused: PermissionDenied, or ResourceExhausted
//	        └─► stream ─► asks for names ─► gets secrets ─► ACK: loaded, NACK: taken back
//
// It guarantees that who is refused gets no secret, and that who asks nothing, or does
// not read what he is sent, is cut off. A client that says nothing of a secret is waited
// for as long as the target's wait_seconds are, once for all that are installed together.
package sds
