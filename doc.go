// Package certctl is the vocabulary of a certificate lifecycle platform: what a
// certificate, its holders, orders, versions, targets and deployments are, and
// every decision that can be made about them without talking to anybody.
//
// It guarantees that decisions are pure: time, randomness and facts are
// arguments, so the same facts give the same answer on every replica and in
// every test. It imports the standard library only, knows no database, no bus
// and no HTTP, and is imported by every other package.
//
// The nouns, one a file:
//
//	Certificate   what should exist            Holder       who holds one private key of it
//	Order         the duty to get one leaf     Attempt      one try at a CA
//	Version       an issued leaf               Binding      certificate ↔ target
//	Target        one daemon on one node       Deployment   one version onto one binding
//	Issuer        a CA connection              Authority    one CA certificate of ours
//	Profile       what may be issued           RenewalPolicy when
//	Principal     who acts                     Event        who did what
//
// Three counters have three words: a certificate's revision (what a leaf
// contains), a command's number (fencing on the node) and a node's generation
// (a directory).
package certctl
