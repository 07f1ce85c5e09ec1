package bus

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
)

// StreamLog remembers when a stream was made, so that one that is newer than
// remembered is known to have lost what the older one held.
type StreamLog interface {
	// StreamCreated remembers at for the stream and returns what was remembered
	// before, zero for the first time. One of several concurrent callers gets the
	// older value.
	StreamCreated(ctx context.Context, name string, at time.Time) (previous time.Time, err error)
}

// SupervisorOptions are the parts of a Supervisor. Fill and Readers may be nil
// in processes that have no database: others see to it.
type SupervisorOptions struct {
	Replicas int // of each stream: 1, or 3 with a broker that has three nodes; 0 is 1
	Log      zerolog.Logger
	Streams  StreamLog
	// Fill publishes what the event table holds into an event stream that is new.
	Fill func(ctx context.Context) error
	// Readers are those whose consumers must exist.
	Readers func(ctx context.Context) ([]certctl.Reader, error)
}

// Times of a Supervisor.
const (
	lookEvery  = 30 * time.Second // when nothing calls
	lookAgain  = time.Second      // after an error
	fillOthers = 2 * time.Minute  // how long another process may take to fill
)

// Supervisor sees to it that the streams exist as the table says: at start, on
// each connection, and whenever somebody meets a missing one. Every process may
// run one; they do not disturb each other. So a broker whose directory was wiped
// under load is as before within seconds, and nobody has to be started anew.
type Supervisor struct {
	conn  *Conn
	o     SupervisorOptions
	ready chan struct{}
	once  sync.Once
	grace time.Duration

	// Of the event stream, used by Run alone.
	seen     time.Time // when the stream was made whose readers were seen to
	unfilled time.Time // since when it waits for another process to fill it
}

// NewSupervisor returns a supervisor that has not looked yet.
func NewSupervisor(conn *Conn, o SupervisorOptions) *Supervisor {
	o.Replicas = max(o.Replicas, 1)
	return &Supervisor{conn: conn, o: o, ready: make(chan struct{}), grace: fillOthers}
}

// Ready returns a channel that is closed once the streams have been there.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// Run supervises until ctx ends, whose error it returns. It returns a Conflict
// when a stream cannot be what it must be.
func (s *Supervisor) Run(ctx context.Context) error {
	connected, stop := s.conn.connected.listen()
	defer stop()
	missing, stop := s.conn.missing.listen()
	defer stop()
	for {
		pause := lookEvery
		if err := s.runOnce(ctx); err != nil && ctx.Err() == nil {
			if certctl.ErrorCode(err) == certctl.Conflict {
				return err
			}
			s.o.Log.Warn().Err(err).Msg("the streams of the bus cannot be checked")
			pause = lookAgain
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-connected:
		case <-missing:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// runOnce declares what is missing, mends what differs, fills what is new.
func (s *Supervisor) runOnce(ctx context.Context) error {
	if !s.conn.Connected() {
		return certctl.Errorf(certctl.Unavailable, "the bus cannot be reached")
	}
	var events *jetstream.StreamInfo
	for _, want := range streams(s.o.Replicas) {
		info, err := s.declare(ctx, want)
		if err != nil {
			return err
		}
		if want.Name == StreamEvent {
			events = info
		}
	}
	s.once.Do(func() { close(s.ready) })
	s.conn.declared.flash()
	if err := s.readers(ctx, events); err != nil {
		return err
	}
	return s.fill(ctx, events)
}

// declare makes one stream exist as wanted.
func (s *Supervisor) declare(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	stream, err := s.conn.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.conn.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = s.conn.js.Stream(ctx, want.Name) // another process was faster
		} else if err == nil {
			s.o.Log.Info().Str("stream", want.Name).Msg("stream declared")
		}
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the stream %s cannot be declared", want.Name).
			WithRemedy("check that JetStream is on, has room, and has as many nodes as replicas are wanted")
	}
	have := stream.CachedInfo()
	if have.Config.Retention != want.Retention || have.Config.Storage != want.Storage {
		return nil, certctl.Errorf(certctl.Conflict, "the stream %s has another retention or storage than certctl's", want.Name).
			WithRemedy("it was not made by certctl, or by another release: remove it; events are published again from the database")
	}
	if schemaOf(have.Config.Metadata) > streamSchema {
		return have, nil // a newer release knows better
	}
	mended := mend(have.Config, want)
	if reflect.DeepEqual(mended, have.Config) {
		return have, nil
	}
	if stream, err = s.conn.js.UpdateStream(ctx, mended); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the stream %s cannot be changed", want.Name)
	}
	s.o.Log.Info().Str("stream", want.Name).Msg("stream mended")
	return stream.CachedInfo(), nil
}

// mend returns have with everything that the table speaks of as in want.
func mend(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	have.Description, have.Subjects, have.Discard = want.Description, want.Subjects, want.Discard
	have.MaxAge, have.MaxMsgSize, have.Duplicates = want.MaxAge, want.MaxMsgSize, want.Duplicates
	if want.MaxMsgs != 0 {
		have.MaxMsgs = want.MaxMsgs
	}
	if want.MaxBytes != 0 {
		have.MaxBytes = want.MaxBytes
	}
	have.Replicas, have.Compression = want.Replicas, want.Compression
	have.AllowAtomicPublish = want.AllowAtomicPublish
	have.AllowRollup, have.AllowMsgTTL, have.AllowMsgSchedules = false, false, false
	if have.Metadata[metaSchema] != want.Metadata[metaSchema] {
		have.Metadata = with(have.Metadata, metaSchema, want.Metadata[metaSchema])
	}
	return have
}

// with returns a copy of metadata with one value set.
func with(metadata map[string]string, key, value string) map[string]string {
	copied := map[string]string{key: value}
	for k, v := range metadata {
		if k != key {
			copied[k] = v
		}
	}
	return copied
}

// readers makes the consumers of readers, once per stream.
func (s *Supervisor) readers(ctx context.Context, events *jetstream.StreamInfo) error {
	if s.o.Readers == nil || s.seen.Equal(events.Created) {
		return nil
	}
	readers, err := s.o.Readers(ctx)
	if err != nil {
		return err
	}
	for _, reader := range readers {
		if err := CreateReader(ctx, s.conn, reader); err != nil {
			return err
		}
	}
	s.seen = events.Created
	return nil
}

// fill publishes what the event table holds when the stream is newer than
// remembered. The process that learns it first does so; when it dies over it, the
// stream stays marked as not filled, and another one does it after a while. That
// may publish events twice, which readers must expect anyway.
func (s *Supervisor) fill(ctx context.Context, events *jetstream.StreamInfo) error {
	if s.o.Fill == nil || s.o.Streams == nil {
		return nil
	}
	created := events.Created.UTC().Truncate(time.Microsecond) // as the database keeps it
	previous, err := s.o.Streams.StreamCreated(ctx, StreamEvent, created)
	if err != nil {
		return err
	}
	if previous.Equal(created) {
		if events.Config.Metadata[metaFilled] != "" {
			s.unfilled = time.Time{}
			return nil
		}
		if s.unfilled.IsZero() {
			s.unfilled = time.Now()
		}
		if time.Since(s.unfilled) < s.grace {
			return nil
		}
	}
	s.o.Log.Info().Time("created", created).Msg("the event stream is new: filling it from the table")
	if err := s.o.Fill(ctx); err != nil {
		return err
	}
	return s.markFilled(ctx, events.Created)
}

// markFilled notes that the stream which was made at created is filled.
func (s *Supervisor) markFilled(ctx context.Context, created time.Time) error {
	s.unfilled = time.Time{}
	stream, err := s.conn.js.Stream(ctx, StreamEvent)
	if err != nil {
		return s.conn.unreachable(err, "the event stream cannot be marked as filled")
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(created) {
		return certctl.Errorf(certctl.Unavailable, "the event stream was made anew while it was filled")
	}
	config := info.Config
	config.Metadata = with(config.Metadata, metaFilled, "yes")
	if _, err := s.conn.js.UpdateStream(ctx, config); err != nil {
		return s.conn.unreachable(err, "the event stream cannot be marked as filled")
	}
	return nil
}
