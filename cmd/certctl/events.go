package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

type eventsCmd struct {
	List    eventListCmd    `cmd:"" default:"withargs" help:"List events, or follow them."`
	Readers eventReadersCmd `cmd:"" aliases:"credentials" help:"Credentials to read events from the bus."`
}

const eventsPath = "/api/v1/events"

type eventListCmd struct {
	Follow    bool   `help:"Print events as they happen." short:"f" env:"-"`
	Aggregate string `help:"Only of this kind of object." env:"-"`
	Object    string `help:"Only of this object." env:"-"`
	Event     string `help:"Only with this name." env:"-" name:"name"`
	Actor     string `help:"Only by this principal." env:"-"`
	After     string `help:"Only after the event with this id." env:"-"`
	Limit     int    `help:"At most so many; 0 = all." default:"50" env:"-"`
}

func (c eventListCmd) Run(s *session) error {
	query := params("aggregate", c.Aggregate, "object", c.Object, "name", c.Event, "actor", c.Actor, "after", c.After)
	if c.Follow {
		return s.follow(query, c.After)
	}
	if c.After == "" {
		query.Set("newest", "true")
	}
	if c.Limit > 0 {
		query.Set("limit", fmt.Sprint(min(c.Limit, 1000)))
	}
	return s.list(eventsPath, query, c.Limit, columns{"time", "name", "aggregate", "object", "actor", "outcome", "id"})
}

// follow prints events as they come, and takes up after the last one when the
// connection breaks.
func (s *session) follow(query url.Values, last string) error {
	query.Del("after")
	s.globals.Timeout = 0
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	for {
		next, err := s.followOnce(ctx, client, query, last)
		var refused *apiError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused) && refused.Status < 500:
			return err
		}
		last = next
		if pause(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (s *session) followOnce(ctx context.Context, client *client, query url.Values, last string) (string, error) {
	header := http.Header{"Accept": {"text/event-stream"}}
	if last != "" {
		header.Set("Last-Event-ID", last)
	}
	response, err := client.send(ctx, http.MethodGet, eventsPath, query, nil, header)
	if err != nil {
		return last, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			last = value
		case "data":
			if err := s.printEvent(value); err != nil {
				return last, err
			}
		}
	}
	return last, lines.Err()
}

func (s *session) printEvent(data string) error {
	if s.globals.Output == "json" {
		return write(s.out, []byte(data+"\n"))
	}
	var event object
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		return certctl.Wrap(certctl.Internal, err, "an event cannot be read")
	}
	if s.globals.Output == "yaml" {
		if err := write(s.out, []byte("---\n")); err != nil {
			return err
		}
		return s.yaml(event)
	}
	at, _ := time.Parse(time.RFC3339, fmt.Sprint(event["time"]))
	_, err := fmt.Fprintf(s.out, "%s  %-24s %s  %s  %s\n", at.Local().Format(time.TimeOnly), event["name"], event["object"], event["actor"], event["outcome"])
	return err
}

type eventReadersCmd struct {
	List   readerListCmd   `cmd:"" help:"List reader credentials."`
	Create readerCreateCmd `cmd:"" help:"Make credentials; they are shown this once."`
	Revoke readerRevokeCmd `cmd:"" help:"Revoke credentials."`
}

const readersPath = eventsPath + "/readers"

type readerListCmd struct{}

func (readerListCmd) Run(s *session) error {
	return s.list(readersPath, params(), 0, columns{"id", "name", "owner", "filters", "EXPIRES=expires_at", "REVOKED=revoked_at"})
}

type readerCreateCmd struct {
	nameArg
	Owner     string   `help:"Who answers for it." env:"-"`
	Subjects  []string `help:"What to read about: certificate for all about certificates, certificate.certificate_issued for one event; none: everything." env:"-" sep:","`
	Aggregate []string `help:"Kinds of objects to read about, like --subjects." env:"-" sep:","`
	Expires   string   `help:"For how long." default:"90d" env:"-" name:"expires-in" aliases:"expires"`
}

func (c readerCreateCmd) Run(s *session) error {
	body := object{"name": c.Name, "expires_in": c.Expires}
	setText(body, "owner", c.Owner)
	set(body, "aggregates", c.Aggregate)
	set(body, "subjects", c.Subjects)
	return s.change(http.MethodPost, readersPath, body, waiting{})
}

type readerRevokeCmd struct{ nameArg }

func (c readerRevokeCmd) Run(s *session) error { return s.remove(readersPath, c.Name) }

type deadLettersCmd struct {
	List    deadListCmd    `cmd:"" help:"List work that was set aside."`
	Replay  deadReplayCmd  `cmd:"" help:"Try one again."`
	Discard deadDiscardCmd `cmd:"" help:"Discard one."`
}

const deadPath = "/api/v1/dead-letters"

type deadListCmd struct{}

func (deadListCmd) Run(s *session) error {
	return s.list(deadPath, params(), 0, columns{"id", "verb", "lane", "reason", "AGE=created_at", "message"})
}

type deadReplayCmd struct{ nameArg }

func (c deadReplayCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(deadPath, c.Name)+"/replay", nil, waiting{})
}

type deadDiscardCmd struct{ nameArg }

func (c deadDiscardCmd) Run(s *session) error { return s.remove(deadPath, c.Name) }
