// Package discover reads the real configurations of a node's daemons and proposes
// targets for them: which certificates they use, where each would go, what the
// node's policy has to allow, and which lines of the configuration change.
//
//	configuration ─► uses (file, key, listeners, lines) ─► places, slots ─► proposal
//
// It reads, and changes nothing. What it cannot say for sure it names as a problem,
// with a remedy, instead of guessing: a name that depends on a variable, a listener
// that nobody can reach, a name of a certificate that something else is served for.
package discover
