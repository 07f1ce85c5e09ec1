package bus

import (
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// Names of the two streams.
const (
	StreamIntent = "CERTCTL_INTENT" // hints; memory; may be lost
	StreamEvent  = "CERTCTL_EVENT"  // the live feed of the event table
)

// streamSchema rises with every change of the table below. A process leaves what
// a higher schema has declared as it is.
const streamSchema = 1

// Keys of a stream's and a consumer's metadata.
const (
	metaSchema = "certctl-schema"
	metaFilled = "certctl-filled" // the event stream holds what was in the table before it
)

// Bounds of the streams. A hint that has waited for hintAge would have been given
// again ten times; when there are more than hintMost, the oldest go first.
const (
	hintAge   = 10 * time.Minute
	hintMost  = 1_000_000
	hintBytes = 128 << 20 // of the broker's memory
	eventAge  = 90 * 24 * time.Hour
	// eventWindow is how long the same event is not stored twice. Ids cost the
	// broker 0.3 KB each for as long.
	eventWindow = time.Minute
	// messageMost bounds a hint or an event; larger ones are a mistake.
	messageMost = 256 << 10
)

// streams is the one table of the streams.
//
// Hints are kept by limits and not as a work queue: there an acknowledgement
// removes the message, and with every write synced that costs ten times as much.
// They are in memory, since the database holds the work. The event stream denies
// deletes and purges. Batches are allowed on events only; roll-ups, times to live
// and schedules nowhere, since whoever may publish could use them.
func streams(replicas int) []jetstream.StreamConfig {
	metadata := map[string]string{metaSchema: strconv.Itoa(streamSchema)}
	return []jetstream.StreamConfig{
		{
			Name: StreamIntent, Description: "certctl: look at these now", Metadata: maps.Clone(metadata),
			Subjects:  []string{prefixIntent + ">"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.MemoryStorage, Discard: jetstream.DiscardOld,
			MaxAge: hintAge, MaxMsgs: hintMost, MaxBytes: hintBytes, MaxMsgSize: messageMost,
			Duplicates: time.Second, // hints have no ids; zero would mean two minutes
			Replicas:   replicas,
		},
		{
			Name: StreamEvent, Description: "certctl: who did what", Metadata: maps.Clone(metadata),
			Subjects:  []string{prefixEvent + ">"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
			Compression: jetstream.S2Compression, MaxAge: eventAge, MaxMsgSize: messageMost,
			Duplicates: eventWindow, DenyDelete: true, DenyPurge: true, AllowAtomicPublish: true,
			Replicas: replicas,
		},
	}
}

// Deliveries of one hint. A hint that was delivered maxTries times without an
// outcome is poison; further deliveries, which the broker ends at maxDeliver, are
// for recording that.
const (
	maxTries   = 5
	maxDeliver = 12
)

// ackWait is how long a delivered hint belongs to its handler without a sign of
// life from it.
const ackWait = 30 * time.Second

// hintConsumer is the template of the durable consumer of a verb and lane.
// MaxAckPending only keeps one crashed process from holding all hints back;
// limits of issuers are in the database.
func hintConsumer(verb certctl.HintVerb, lane string, wait time.Duration) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: ConsumerName(verb, lane), Description: "certctl: " + string(verb),
		FilterSubject: SubjectIntent(verb, lane), DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: wait, MaxDeliver: maxDeliver, MaxAckPending: 1000,
		Metadata: map[string]string{metaSchema: strconv.Itoa(streamSchema)},
	}
}

// schemaOf reads the schema from metadata; 0 where there is none.
func schemaOf(metadata map[string]string) int {
	n, err := strconv.Atoi(metadata[metaSchema])
	if err != nil {
		return 0
	}
	return n
}
