// Command events prints certctl's events as they come, one JSON object a line,
// and takes up where it was when it is started again: an example of downstream
// automation, with nothing but a NATS library.
//
//	certctl events credentials create printer --subjects certificate.certificate_issued -o json > reader.json
//	go run ./examples/events -ca ca.crt reader.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// reader is what `certctl events credentials create` says.
type reader struct {
	ID          string   `json:"id"`
	Credentials string   `json:"credentials"`
	URLs        []string `json:"urls"`
	APIPrefix   string   `json:"api_prefix"`
	Stream      string   `json:"stream"`
	Consumer    string   `json:"consumer"`
}

func main() {
	ca := flag.String("ca", "ca.crt", "root that the bus's certificate chains to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flag.Arg(0), *ca); err != nil {
		fmt.Fprintln(os.Stderr, "events:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, ca string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var r reader
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	// Revoked or expired credentials are the one error that no reconnect mends.
	ended := make(chan error, 1)
	conn, err := nats.Connect(strings.Join(r.URLs, ","), nats.UserCredentialBytes([]byte(r.Credentials)), nats.RootCAs(ca),
		nats.TLSHandshakeFirst(), nats.CustomInboxPrefix("_INBOX."+r.ID), nats.MaxReconnects(-1),
		nats.ClosedHandler(func(c *nats.Conn) { ended <- c.LastError() }))
	if err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.NewWithAPIPrefix(conn, r.APIPrefix)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, r.Stream, r.Consumer)
	if err != nil {
		return fmt.Errorf("find the reader's consumer: %w", err)
	}
	reading, err := consumer.Consume(handle)
	if err != nil {
		return err
	}
	defer reading.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return errors.Join(errors.New("the bus has ended the connection"), err)
	}
}

// handle is where yours begins. What it has not acknowledged comes again, so it
// must bear to see an id twice.
func handle(message jetstream.Msg) {
	fmt.Printf("{\"id\":%q,\"type\":%q,\"event\":%s}\n", message.Headers().Get("ce-id"), message.Headers().Get("ce-type"), message.Data())
	if err := message.Ack(); err != nil {
		fmt.Fprintln(os.Stderr, "events: acknowledge:", err)
	}
}
