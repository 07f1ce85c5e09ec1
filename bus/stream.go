package bus

// Names of the two streams.
const (
	StreamIntent = "CERTCTL_INTENT" // hints; memory; may be lost
	StreamEvent  = "CERTCTL_EVENT"  // the live feed of the event table
)
