package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reader is what the API says once of a reader of events.
type reader struct {
	ID          string   `json:"id"`
	Credentials string   `json:"credentials"`
	Stream      string   `json:"stream"`
	Consumer    string   `json:"consumer"`
	APIPrefix   string   `json:"api_prefix"`
	URLs        []string `json:"urls"`
}

// newReader makes credentials for the bus.
func (s *stack) newReader(name string) reader {
	s.t.Helper()
	var r reader
	s.call(http.MethodPost, "/api/v1/events/readers", map[string]any{"name": name, "expires_in": "1h"}, &r)
	return r
}

// connect logs in to the bus as downstream automation does: with nothing but a
// NATS library, the credentials and the root.
func (s *stack) connect(r reader) (*nats.Conn, jetstream.JetStream, error) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "reader.creds")
	s.must(os.WriteFile(file, []byte(r.Credentials), 0o600))
	conn, err := nats.Connect(r.URLs[0], nats.UserCredentials(file), nats.RootCAs(s.Server.CAFile), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix("_INBOX."+r.ID), nats.NoReconnect())
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.NewWithAPIPrefix(conn, r.APIPrefix)
	return conn, js, err
}

// eventsOnBus are the ids of all events that a new reader gets.
func (s *stack) eventsOnBus() []string {
	s.t.Helper()
	r := s.newReader("all-" + time.Now().Format("150405.000000"))
	conn, js, err := s.connect(r)
	s.must(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	consumer, err := js.Consumer(ctx, r.Stream, r.Consumer)
	s.must(err)
	var ids []string
	for {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(time.Second))
		s.must(err)
		n := 0
		for m := range batch.Messages() {
			n++
			ids = append(ids, m.Headers().Get("ce-id"))
			s.must(m.Ack())
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			s.t.Fatal(err)
		}
		if n == 0 {
			return ids
		}
	}
}
