package certctl

// Effects is what a committed transaction wants told to the rest of the world:
// hints to give, agents to ring, events to publish. The store hands them to an
// announcer after the commit; losing them costs time only, since the due table
// and event_out hold the same facts.
type Effects struct {
	Hints  []Hint
	Events []Event
}

// Announcer passes effects on. It never blocks and never fails.
type Announcer func(Effects)
