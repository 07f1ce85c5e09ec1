// Package unixsock listens at a socket of this node for those who may come.
//
//	Listen ─► folder: root's or ours, nobody else writes there
//	       ─► <socket>.lock: one listener at a time, of all processes
//	       ─► what is at the path: nothing, or a socket that refuses (ECONNREFUSED)
//	       ─► mode 0600, or 0660 for one group
//	Accept ─► the kernel says who it is ─► Conn, with a Refusal for who may not come
//
// It guarantees:
//   - a socket at which somebody listens, or of which that cannot be told, is left
//     alone;
//   - every connection that is handed over has a user that the kernel has named;
//   - connections are bounded, for each user and in all. Who is refused keeps his
//     for a moment, so that he can be told why, and a flood of such ones is dropped;
//   - Close ends all connections, removes the socket if it is still its own, and lets
//     go of the lock before it returns. It waits for nobody.
//
// It reads nothing and sends nothing: that is for the protocol above.
package unixsock
