// Package challenge answers CAs that look for the proof of a name at its node: by
// a file in the folder of a web server that runs there, or by a listener of its
// own, for http-01 (RFC 8555 section 8.3) and tls-alpn-01 (RFC 8737).
//
// It listens only while there is something to be proven, serves the proofs and
// nothing else, and bounds what others may take of the node: connections, their
// time, the size of a request. Files are written aside and renamed, below the
// folders that the node's owner has named; no symbolic link leads out of them.
//
// It remembers nothing: whoever uses it knows what is to be held after a start, and
// what may have been written before a crash.
package challenge
