package certctl

import "time"

// Reader may fetch events from the bus until it expires or is revoked. It reads
// through a consumer that the platform has made for it and can neither publish
// nor see anything else.
type Reader struct {
	ID        ID
	Team      string
	Name      string
	Owner     string
	Filters   []string // aggregates; empty: all
	ExpiresAt time.Time
	RevokedAt time.Time
	CreatedAt time.Time
}
