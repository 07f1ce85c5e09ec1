// Package bus is the messaging contract of the platform: every subject, stream,
// consumer, header and envelope is named here and nowhere else, and nothing else
// imports the NATS libraries. What it carries is never the truth: that is in
// PostgreSQL, so everything on the bus may be lost, late, doubled or forged, and
// costs time at most.
//
//	    a process that has committed               the scheduler
//	              │ certctl.Effects                      │ rows that are due
//	              ▼                                      ▼
//	Announcer ──hints──► Publisher ──► CERTCTL_INTENT ──► Router ──► handlers
//	    │  └───bells───► Bells ─────► (core) ─────────► agents: "ask your mailbox"
//	    └──────events──► Relay ─────► CERTCTL_EVENT ──► readers, Follow
//	                      ▲ leftovers, refills
//	                  event table
//
//	agents ──ask.mailbox──► ServeMailbox (signer)     api ──AskSigner──► ServeSigner
//	       ──ask.report───► ServeReports (worker)
//
// The files, by noun: subject.go the names; stream.go the table of streams and
// consumers, which Supervisor (supervisor.go) keeps true; conn.go and pace.go a
// connection and how it comes back; message.go and event.go the envelopes;
// intent.go, bell.go, relay.go, announcer.go what goes out; router.go, lane.go,
// ack.go hints coming in; gather.go, ask.go requests; agent.go the far side;
// feed.go and reader.go those who read events. Who may log in and do what is in
// identity.go, permission.go, account.go and credential.go; the broker itself is
// package bus/broker.
//
// # When something fails
//
//   - No broker: publishing fails at once and is not buffered. Hints and bells are
//     dropped, since the dispatcher gives them again; events stay in event_out, and
//     the relay publishes them later; agents keep what they have to say in their
//     journal. Connections come back by themselves, spread over time, whatever the
//     broker says of the credentials.
//   - The broker was wiped: whoever meets a missing stream or consumer wakes the
//     supervisor, which declares the streams; routers make their consumers anew; a
//     new event stream is filled from the table.
//   - A hint's handler returns an error: the hint comes again a few times, then it
//     is dropped and the row's due_at brings the next.
//   - A handler panics, hangs, or dies with its process: the hint is delivered
//     again, at most five times; the next delivery makes a dead letter of it. A
//     kind or version that is not known here waits the same number of times for a
//     newer process.
//   - A batch of events is refused, for one event that is too large or already
//     there: its events are published one by one, and one that the broker will
//     never take is set aside without holding the others.
//   - A request that did not come through an export, or names another agent than
//     its subject, or is too large: refused before anything of it is believed.
//
// # What is never done
//
// Nothing waits on the bus for longer than MaxRetry: "later" is a due_at. No
// message is acknowledged outside ack.go. No answer goes to a reply subject that
// a stranger could have chosen. Nothing that comes off the bus is signed, and no
// signature is verified here: that is for those who know the keys.
package bus
