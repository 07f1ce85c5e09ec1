package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// deliveryGrace is how much too early a notification may be told with others: what
// the dispatcher has claimed is due again only later.
const deliveryGrace = 2 * time.Minute

// BeginDeliveries returns what the channels of notifications are to be told now,
// with all else that is due to them. A channel belongs to the caller for lease;
// one that somebody else tells something is passed over: what is due comes up again.
func (s *Store) BeginDeliveries(ctx context.Context, ids []certctl.ID, lease time.Duration) ([]certctl.Delivery, error) {
	var deliveries []certctl.Delivery
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		rows, err := t.Query(ctx, `
			update channel c set number = number + 1, busy_until = now() + $2
			where c.id = any(array(
				select id from channel where id = any(array(select channel_id from notification where id = any($1) and state = 'pending'))
					and (busy_until is null or busy_until < now()) and (wait_until is null or wait_until <= now() + interval '1 second')
				order by id for no key update skip locked))
			returning c.id, c.number, c.sealed`, ids, lease)
		if err != nil {
			return err
		}
		deliveries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d certctl.Delivery, err error) {
			return d, row.Scan(&d.Channel.ID, &d.Number, &d.Sealed)
		})
		if err != nil || len(deliveries) == 0 {
			return err
		}
		var mine []certctl.ID
		for i := range deliveries {
			mine = append(mine, deliveries[i].Channel.ID)
		}
		channels, err := t.channels(ctx, mine)
		if err != nil {
			return err
		}
		for i := range deliveries {
			d := &deliveries[i]
			d.Channel = channels[d.Channel.ID]
			if d.Notifications, err = t.dueNotifications(ctx, d.Channel.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return deliveries, err
}

// dueNotifications are the oldest of those that a channel has not taken, in the order
// of their events.
func (t *tx) dueNotifications(ctx context.Context, channel certctl.ID) ([]certctl.Notification, error) {
	var ids []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select n.id from notification n join due d on d.kind = $2 and d.id = n.id
			where n.channel_id = $1 and n.state = 'pending' and d.due_at <= now() + $3 order by n.event_id limit $4)`,
		channel, dueNotification, deliveryGrace, certctl.MaxDelivery).Scan(&ids); err != nil {
		return nil, err
	}
	all, err := t.notifications(ctx, ids)
	return inOrder(ids, all), err
}

// notifications reads notifications with their events. One whose event was dropped
// by retention has an event without a name.
func (t *tx) notifications(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Notification, error) {
	rows, err := t.Query(ctx, `
		select n.id, n.channel_id, c.name, n.event_id, e.body, n.severity, n.ends, n.keys, n.state, n.tries, n.message, d.due_at,
			n.created_at, n.delivered_at
		from notification n join channel c on c.id = n.channel_id
		left join event e on e.id = n.event_id
		left join due d on d.kind = $2 and d.id = n.id
		where n.id = any($1)`, ids, dueNotification)
	if err != nil {
		return nil, err
	}
	all := make(map[certctl.ID]certctl.Notification, len(ids))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n certctl.Notification, err error) {
		var body []byte
		var event certctl.ID
		if err := row.Scan(&n.ID, &n.Channel.ID, &n.Channel.Name, &event, &body, &n.Severity, &n.Ends, &n.Keys, &n.State, &n.Tries,
			&n.Message, &n.DueAt, &n.CreatedAt, &n.DeliveredAt); err != nil {
			return n, err
		}
		if body != nil {
			if err := json.Unmarshal(body, &n.Event); err != nil {
				return n, certctl.Wrap(certctl.Internal, err, "the event %s cannot be read", event)
			}
		}
		n.Event.ID = event
		all[n.ID] = n
		return n, nil
	})
	return all, err
}

// FinishDelivery records how a delivery went. What the channel did not take is told
// again later, with what came up meanwhile; what is given up waits for a person,
// and an event says so. A delivery that is not the channel's newest any more changes
// nothing: whoever tells the channel now has read the same notifications.
func (s *Store) FinishDelivery(ctx context.Context, end certctl.DeliveryEnd) error {
	channel := end.Delivery.Channel
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		var current bool
		failures := 0
		if err := t.QueryRow(ctx, `select number = $2, failures from channel where id = $1 for no key update`, channel.ID, end.Delivery.Number).
			Scan(&current, &failures); err != nil || !current {
			return err
		}
		var taken, given, again []certctl.ID
		var message string
		var reasons []string
		for i, n := range end.Delivery.Notifications {
			switch err := end.Errs[i]; {
			case err == nil:
				taken = append(taken, n.ID)
			case errors.Is(err, certctl.ErrNotTried):
			case certctl.GivesUp(n.Tries+1, err):
				given, reasons = append(given, n.ID), append(reasons, certctl.Clip(certctl.ErrorMessage(err), 1000))
				t.eventOutcome(channel.Team, certctl.AggregateChannel, channel.ID, certctl.EventNotificationFailed, certctl.OutcomeFailure,
					map[string]any{"name": channel.Name, "notification": n.ID, "event": n.Event.ID, "code": certctl.ErrorCode(err)})
			default:
				again, message = append(again, n.ID), certctl.Clip(certctl.ErrorMessage(err), 1000)
			}
		}
		failures++
		if len(again) == 0 {
			failures = 0
		}
		if err := t.closeNotifications(ctx, taken, given, reasons); err != nil {
			return err
		}
		wait := time.Time{}
		if failures > 0 {
			wait = t.now.Add(max(certctl.Backoff(failures, end.Draw), min(end.RetryAfter, certctl.Day)))
		}
		if err := t.put(ctx, `
			update channel set busy_until = null, failures = $2, message = $3, wait_until = $4,
				delivered_at = case when $5 then now() else delivered_at end
			where id = $1`, channel.ID, failures, message, wait, len(taken) > 0); err != nil {
			return err
		}
		if err := t.put(ctx, `update notification set tries = tries + 1, message = $2 where id = any($1)`, some(again), message); err != nil {
			return err
		}
		// What came up while the channel was busy has been hinted in vain; it waits, too,
		// when the channel does.
		return t.put(ctx, `
			update due set due_at = case when c.wait_until is null then least(due.due_at, channel_due(c)) else channel_due(c) end
			from notification n join channel c on c.id = n.channel_id
			where n.channel_id = $1 and n.state = 'pending' and due.kind = $2 and due.id = n.id`, channel.ID, dueNotification)
	})
}

// closeNotifications ends those that were taken, and lets those that are given up
// wait for a person.
func (t *tx) closeNotifications(ctx context.Context, taken, given []certctl.ID, reasons []string) error {
	if err := t.done(ctx, dueNotification, append(append([]certctl.ID{}, taken...), given...)...); err != nil {
		return err
	}
	if len(taken) > 0 {
		if err := t.put(ctx, `
			update notification set state = 'delivered', tries = tries + 1, message = '', delivered_at = now(), closed_at = now()
			where id = any($1)`, taken); err != nil {
			return err
		}
	}
	if len(given) == 0 {
		return nil
	}
	return t.put(ctx, `
		update notification n set state = 'failed', tries = tries + 1, message = new.reason
		from unnest($1::uuid[], $2::text[]) as new(id, reason) where n.id = new.id`, given, reasons)
}

// ListNotifications returns one page of notifications, newest first.
func (s *Store) ListNotifications(ctx context.Context, actor certctl.Actor, filter certctl.NotificationFilter) (certctl.Page[certctl.Notification], error) {
	var page certctl.Page[certctl.Notification]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectChannel); err != nil {
			return err
		}
		c := &conditions{}
		if filter.Channel != "" {
			f, err := t.one(ctx, certctl.ObjectChannel, certctl.VerbRead, filter.Channel)
			if err != nil {
				return err
			}
			c.add("o.channel_id = ?", f.id)
		}
		if filter.State != "" {
			c.add("o.state = ?", string(filter.State))
		}
		t.inTeam(c, "c.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "notification o join channel c on c.id = o.channel_id", c, filter.PageRequest)
		if err != nil {
			return err
		}
		all, err := t.notifications(ctx, ids)
		page = pageOf(inOrder(ids, all), limit, func(n certctl.Notification) certctl.ID { return n.ID })
		return err
	})
	return page, err
}

// GetNotification returns one notification.
func (s *Store) GetNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Notification, error) {
	var n certctl.Notification
	err := s.readAs(ctx, actor, func(t *tx) error {
		var err error
		n, err = t.notification(ctx, certctl.VerbRead, id)
		return err
	})
	return n, err
}

// notification reads one and authorises the actor for its channel.
func (t *tx) notification(ctx context.Context, verb certctl.Verb, id certctl.ID) (certctl.Notification, error) {
	all, err := t.notifications(ctx, []certctl.ID{id})
	if err != nil {
		return certctl.Notification{}, err
	}
	n, known := all[id]
	if !known {
		return n, notFound("notification", id.String())
	}
	_, err = t.one(ctx, certctl.ObjectChannel, verb, n.Channel.ID.String())
	return n, err
}

// TestChannel has a channel told of a test, by whatever tells it all else.
func (s *Store) TestChannel(ctx context.Context, actor certctl.Actor, ref string) (certctl.Notification, error) {
	var id certctl.ID
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectChannel, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		if f.archived {
			return isArchived(certctl.ObjectChannel, f.name)
		}
		t.event(f.team, certctl.AggregateChannel, f.id, certctl.EventChannelTested, map[string]any{"name": f.name})
		event := &t.pending[len(t.pending)-1]
		event.ID, id = certctl.NewID(t.now), certctl.NewID(t.now)
		if err := t.put(ctx, `insert into notification (id, channel_id, event_id, severity, ends, keys) values ($1, $2, $3, $4, false, '{}')`,
			id, f.id, event.ID, int16(certctl.SeverityInfo)); err != nil {
			return err
		}
		t.hint(certctl.HintNotify, certctl.NoLane, id)
		return t.due(ctx, dueRow{kind: dueNotification, id: id, verb: certctl.HintNotify, urgency: certctl.UrgencyNow, at: t.now})
	})
	if err != nil {
		return certctl.Notification{}, err
	}
	return s.GetNotification(ctx, actor, id)
}

// ReplayNotification has one that was given up told again.
func (s *Store) ReplayNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		if err := t.reopen(ctx, id, `update notification set state = 'pending', tries = 0, message = '' where id = $1 and state = 'failed'`,
			certctl.EventNotificationReplayed); err != nil {
			return err
		}
		t.hint(certctl.HintNotify, certctl.NoLane, id)
		return t.due(ctx, dueRow{kind: dueNotification, id: id, verb: certctl.HintNotify, urgency: certctl.UrgencyNow, at: t.now})
	})
}

// DiscardNotification takes one that was given up, or not told yet, off the list.
func (s *Store) DiscardNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		if err := t.reopen(ctx, id, `update notification set state = 'discarded', closed_at = now() where id = $1 and state in ('failed', 'pending')`,
			certctl.EventNotificationDiscarded); err != nil {
			return err
		}
		return t.done(ctx, dueNotification, id)
	})
}

// reopen moves a notification to another state, and tells of it.
func (t *tx) reopen(ctx context.Context, id certctl.ID, statement string, name certctl.EventName) error {
	n, err := t.notification(ctx, certctl.VerbUpdate, id)
	if err != nil {
		return err
	}
	tag, err := t.Exec(ctx, statement, id)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return certctl.Errorf(certctl.Conflict, "the notification is %s", n.State)
	}
	channels, err := t.channels(ctx, []certctl.ID{n.Channel.ID})
	if err != nil {
		return err
	}
	c := channels[n.Channel.ID]
	if !c.ArchivedAt.IsZero() {
		return isArchived(certctl.ObjectChannel, c.Name)
	}
	t.event(c.Team, certctl.AggregateChannel, c.ID, name, map[string]any{"name": c.Name, "notification": id, "event": n.Event.ID})
	return nil
}
