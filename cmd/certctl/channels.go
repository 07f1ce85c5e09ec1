package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certctl/certctl"
)

const (
	channelsPath      = "/api/v1/channels"
	notificationsPath = "/api/v1/notifications"
)

type channelsCmd struct {
	List   channelListCmd   `cmd:"" help:"List them."`
	Get    channelGetCmd    `cmd:"" help:"Show one."`
	Create channelCreateCmd `cmd:"" help:"Make one from a file."`
	Update channelUpdateCmd `cmd:"" help:"Replace one's settings and rules from a file."`
	Delete channelDeleteCmd `cmd:"" help:"Archive one; what it has not been told is discarded."`
}

type (
	channelListCmd   describedList
	channelGetCmd    describedGet
	channelCreateCmd describedCreate
	channelUpdateCmd describedUpdate
	channelDeleteCmd describedDelete
)

func (channelListCmd) Run(s *session) error {
	return s.list(channelsPath, params(), 0, columns{"name", "kind", "failures", "DELIVERED=delivered_at", "message"})
}

func (c channelGetCmd) Run(s *session) error { return s.get(channelsPath, c.Name) }

func (c channelCreateCmd) Run(s *session) error { return s.create(channelsPath, c.File) }

func (c channelUpdateCmd) Run(s *session) error { return s.replace(channelsPath, c.Name, c.File) }

func (c channelDeleteCmd) Run(s *session) error { return s.remove(channelsPath, c.Name) }

type notificationsCmd struct {
	List    notificationListCmd    `cmd:"" help:"List them, newest first."`
	Get     notificationGetCmd     `cmd:"" help:"Show one."`
	Test    notificationTestCmd    `cmd:"" help:"Tell a channel of a test, and say how that went."`
	Replay  notificationReplayCmd  `cmd:"" help:"Tell one again that was given up."`
	Discard notificationDiscardCmd `cmd:"" help:"Discard one that was given up or not told yet."`
}

type notificationListCmd struct {
	Channel string `help:"Only of this channel." env:"-"`
	State   string `help:"pending, delivered, failed or discarded." env:"-"`
	Limit   int    `help:"At most so many; 0 = all." env:"-" default:"100"`
}

func (c notificationListCmd) Run(s *session) error {
	return s.list(notificationsPath, params("channel", c.Channel, "state", c.State), c.Limit,
		columns{"id", "CHANNEL=channel.name", "severity", "title", "state", "tries", "DUE=due_at", "message"})
}

type notificationGetCmd struct{ nameArg }

func (c notificationGetCmd) Run(s *session) error { return s.get(notificationsPath, c.Name) }

type notificationTestCmd struct {
	Channel string `arg:"" help:"Name or id of the channel."`
}

// lookAgain is how often the outcome of a test is looked at: a channel answers in
// its own time.
const lookAgain = 250 * time.Millisecond

func (c notificationTestCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	told, err := client.call(ctx, http.MethodPost, item(channelsPath, c.Channel)+"/test", nil, nil)
	if err != nil {
		return err
	}
	id, _ := told["id"].(string)
	if told, err = settled(ctx, client, id); err != nil {
		return err
	}
	if told["state"] != string(certctl.NotificationDelivered) {
		message, _ := told["message"].(string)
		return certctl.Errorf(certctl.Unavailable, "the channel %s does not take it: %s", c.Channel, message).
			WithRemedy("it is tried again until you say: certctl notifications discard %s", id)
	}
	return s.showOne(told)
}

// settled waits until a notification was delivered, or tried in vain.
func settled(ctx context.Context, client *client, id string) (object, error) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		told, err := client.call(ctx, http.MethodGet, item(notificationsPath, id), nil, nil)
		if err != nil {
			return nil, err
		}
		if tries := told["tries"]; tries != nil && fmt.Sprint(tries) != "0" || told["state"] != string(certctl.NotificationPending) {
			return told, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

type notificationReplayCmd struct{ nameArg }

func (c notificationReplayCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(notificationsPath, c.Name)+"/replay", nil, waiting{})
}

type notificationDiscardCmd struct{ nameArg }

func (c notificationDiscardCmd) Run(s *session) error { return s.remove(notificationsPath, c.Name) }
