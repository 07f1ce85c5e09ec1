package certctl

import "time"

// WaitCA is why an order waits whose attempt goes on at the CA: it validates
// names, or signs.
const WaitCA WaitReason = "ca"

// WaitDNS is why an order waits whose proof stands in the DNS and is not seen yet.
const WaitDNS WaitReason = "dns"

// WaitTwin is why an order waits while another one asks the same CA for the
// same names.
const WaitTwin WaitReason = "same_names"

// Pause is how a driver reports that an attempt has neither a leaf nor failed:
// it goes on at the CA, and is to be looked at again. No worker waits for it. What
// the next one needs to know has been recorded before.
//
//	begin ─► asked ─┬─► issued
//	   ▲            ├─► failed: the next attempt begins anew
//	   │            └─► paused: the same attempt, by whoever is free
//	   └── due ─────────────┘
//
// An IssueError with Resume pauses likewise, and counts as the failure that it is.
type Pause struct {
	After   time.Duration
	Wait    WaitReason
	Message string // for a person: what it waits for
}

func (p *Pause) Error() string { return p.Message }
