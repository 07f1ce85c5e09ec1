package bus

import (
	"context"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
)

// bellsAtOnce is how many bells ring before we listen to what came back.
const bellsAtOnce = 4096

// headerStatus and statusNoResponders are how the broker says that nobody
// listens to what we have published.
const (
	headerStatus       = "Status"
	statusNoResponders = "503"
)

// Bells rings agents: an empty message that means "ask your mailbox".
type Bells struct{ conn *Conn }

// NewBells returns bells on a connection.
func NewBells(conn *Conn) *Bells { return &Bells{conn: conn} }

// Ring rings and returns the agents that are off line, in no order. Nobody
// answers a bell; but it bears a reply subject, so the broker says at once when
// there is nobody to hear it, and it has said so before it answers the flush that
// follows. Work for those who are off line waits in the database.
func (b *Bells) Ring(ctx context.Context, agents []certctl.ID) (offline []certctl.ID, err error) {
	for chunk := range slices.Chunk(agents, bellsAtOnce) {
		silent, err := b.ring(ctx, chunk)
		if err != nil {
			return offline, err
		}
		offline = append(offline, silent...)
	}
	return offline, nil
}

func (b *Bells) ring(ctx context.Context, agents []certctl.ID) ([]certctl.ID, error) {
	const failed = "agents cannot be rung"
	inbox := b.conn.nc.NewInbox() + "."
	echoes := make(chan *nats.Msg, len(agents))
	sub, err := b.conn.nc.ChanSubscribe(inbox+"*", echoes)
	if err != nil {
		return nil, b.conn.unreachable(err, failed)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection has ended
	for _, agent := range agents {
		if err := b.conn.nc.PublishRequest(SubjectBell(agent), inbox+agent.String(), nil); err != nil {
			return nil, certctl.Wrap(certctl.Unavailable, err, failed)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := b.conn.nc.FlushWithContext(ctx); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, failed)
	}
	var offline []certctl.ID
	for {
		select {
		case m := <-echoes:
			if m.Header.Get(headerStatus) != statusNoResponders {
				continue
			}
			if agent, err := certctl.ParseID(strings.TrimPrefix(m.Subject, inbox)); err == nil {
				offline = append(offline, agent)
			}
		default:
			return offline, nil
		}
	}
}
