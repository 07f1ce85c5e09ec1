// Package target installs certificates into the daemons of a node, and proves
// that they are served.
//
// On disk, below a target's directory, each place has
//
//	<place>/generations/<n>/   complete before anything refers to it
//	<place>/current            a link to one of them; the switch is its rename
//	<place>/switching          while a switch is not proven: the generation before it
//
// One batch goes through a target at a time:
//
//	stage ─► check pair, chain, names ─► daemon's own check ─► switch ─► reload ─► probe ─► receipt
//	                     │                      │                          │         │
//	                     └── refused: nothing has changed                  └─────────┴─► switch back, reload, probe
//
// The daemon's check runs on its real configuration in a private mount
// namespace, in which the staged generation lies over the current one. Where the
// kernel refuses that, and for a first generation, the link is switched for the
// check and switched back if it fails, before any reload. A batch that fails is
// halved until the culprit is alone.
//
// After a crash at any point a place holds the old or the new generation, never
// a mixture; Recover takes back a switch that was not proven. The package opens
// no path and runs no command that the node's policy does not allow.
package target
