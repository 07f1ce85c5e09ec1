//go:build !alldns

package acme

// allDNS says whether this build has all providers of LegoProviders.
const allDNS = false
