// Package acme asks CAs that speak ACME (RFC 8555): public ones like Let's
// Encrypt, and private ones. It is the only importer of lego, of which it uses the
// calls for single steps; the order of the steps, and what happens between them,
// is here.
//
// An attempt is a row of steps. Before the next step begins, what the last one
// learned is recorded with the attempt (Attempt.ExternalURL, Attempt.State), so
// that a worker may die anywhere and another one goes on from there:
//
//	order ─► prove ─► present ─► hold ─► spread ─► accept ─► validate ─► clean ─► finalize ─► download
//	  │        │         │         │        │                   │                     │
//	  │        │         │         │        │ until the DNS     │ until the CA        │ until the
//	  │        │         │         │        │ servers show it   │ has looked          │ CA has signed
//	  │        │         │         └ until all agents that are to answer say that they can be asked
//	  │        │         └ a row that every replica answers with, one for each agent, or a TXT record
//	  │        └ which challenge of which name; none when the CA remembers its proof
//	  └ the account, the only order of it for these names, the CA's order
//
// Waiting is a certctl.Pause: no worker sleeps. What the CA or the network fails to
// do is an IssueError with Resume, as long as the CA's order is good; an order that
// has become invalid ends the attempt, and the next one makes another.
//
// Whatever ends an order without a leaf (a failure, a cancellation, another issuer
// that takes over) leaves a row behind for which Abandon is called: it removes
// proofs, gives the CA's authorizations back, and fetches a certificate that was
// signed nevertheless, so that it can be revoked.
//
// The account's key is sealed under the "secrets" key and opened by workers only.
package acme
