// Package rogue is somebody between the processes and the bus who means no good:
// he has the credentials that `certctl-server bus init` wrote for a role, hears
// every hint, takes requests away from those who should answer them, and says
// what he likes. Tests use it to hold the platform against its promise that
// whatever travels on the bus may be lost, late, doubled or forged.
//
// Nothing of the product imports it.
package rogue
