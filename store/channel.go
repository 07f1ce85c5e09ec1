package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// CreateChannel stores a new channel. Whether its kind exists and its settings make
// sense is for the caller, who knows the kinds.
func (s *Store) CreateChannel(ctx context.Context, actor certctl.Actor, request certctl.ChannelRequest) (certctl.Channel, error) {
	var channel certctl.Channel
	err := s.write(ctx, actor, func(t *tx) error {
		teamID, team, err := t.ownerTeam(ctx, request.Team)
		if err != nil {
			return err
		}
		if err := t.may(certctl.VerbCreate, certctl.ObjectChannel, found{team: team}); err != nil {
			return err
		}
		if err := checkChannel(&request, team); err != nil {
			return err
		}
		id := request.ID
		if id.IsZero() {
			id = certctl.NewID(t.now)
		}
		if _, err := t.Exec(ctx, `
			insert into channel (id, team_id, name, kind, settings, sealed, digest_at, digest_zone)
			values ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8)`,
			id, teamID, request.Name, request.Kind, string(request.Settings), request.Sealed, request.DigestAt, request.DigestZone); err != nil {
			return nameTaken(err, certctl.ObjectChannel, request.Name)
		}
		if err := t.setRules(ctx, id, request.Rules); err != nil {
			return err
		}
		t.event(team, certctl.AggregateChannel, id, certctl.EventChannelCreated, map[string]any{"name": request.Name, "kind": request.Kind})
		channel, err = t.channel(ctx, id)
		return err
	})
	return channel, err
}

// GetChannel returns one channel, also an archived one by its id.
func (s *Store) GetChannel(ctx context.Context, actor certctl.Actor, ref string) (certctl.Channel, error) {
	var channel certctl.Channel
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectChannel, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		channel, err = t.channel(ctx, f.id)
		return err
	})
	return channel, err
}

// ListChannels returns one page of the live channels.
func (s *Store) ListChannels(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Channel], error) {
	var page certctl.Page[certctl.Channel]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectChannel); err != nil {
			return err
		}
		c := &conditions{}
		c.add("o.archived_at is null")
		t.inTeam(c, "o.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "channel o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		channels, err := t.channels(ctx, ids)
		page = pageOf(inOrder(ids, channels), limit, func(c certctl.Channel) certctl.ID { return c.ID })
		return err
	})
	return page, err
}

// UpdateChannel replaces a channel's name, settings, rules and secrets (kept when
// the request has none). What it has not taken so far is tried again at once.
func (s *Store) UpdateChannel(ctx context.Context, actor certctl.Actor, ref string, request certctl.ChannelRequest) (certctl.Channel, error) {
	var channel certctl.Channel
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectChannel, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		var archived bool
		kind := ""
		if err := t.QueryRow(ctx, `select kind, archived_at is not null from channel where id = $1 for no key update`, f.id).
			Scan(&kind, &archived); err != nil {
			return err
		}
		if archived {
			return isArchived(certctl.ObjectChannel, f.name)
		}
		if err := fixed(&request.Kind, kind, "/kind"); err != nil {
			return err
		}
		if err := checkChannel(&request, f.team); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, `
			update channel set name = $2, settings = $3::text::jsonb, sealed = coalesce($4, sealed), digest_at = $5, digest_zone = $6,
				wait_until = null, failures = 0, message = '', updated_at = now()
			where id = $1`,
			f.id, request.Name, string(request.Settings), request.Sealed, request.DigestAt, request.DigestZone); err != nil {
			return nameTaken(err, certctl.ObjectChannel, request.Name)
		}
		if err := t.setRules(ctx, f.id, request.Rules); err != nil {
			return err
		}
		if err := t.put(ctx, `
			update due set due_at = channel_due(c) from notification n join channel c on c.id = n.channel_id
			where n.channel_id = $1 and n.state = 'pending' and due.kind = $2 and due.id = n.id`, f.id, dueNotification); err != nil {
			return err
		}
		t.event(f.team, certctl.AggregateChannel, f.id, certctl.EventChannelUpdated, map[string]any{"name": request.Name})
		channel, err = t.channel(ctx, f.id)
		return err
	})
	return channel, err
}

// ArchiveChannel ends a channel: what it has not been told is discarded.
func (s *Store) ArchiveChannel(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectChannel, certctl.VerbDelete, ref)
		if err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update channel set archived_at = now(), updated_at = now() where id = $1 and archived_at is null`, f.id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		for _, statement := range []string{
			`delete from due using notification n where n.channel_id = $1 and n.state = 'pending' and due.kind = '` + dueNotification + `' and due.id = n.id`,
			`update notification set state = 'discarded', message = 'the channel was archived', closed_at = now() where channel_id = $1 and state = 'pending'`,
			`delete from channel_trouble where channel_id = $1`,
			`delete from channel_rule where channel_id = $1`,
		} {
			if err := t.put(ctx, statement, f.id); err != nil {
				return err
			}
		}
		t.event(f.team, certctl.AggregateChannel, f.id, certctl.EventChannelArchived, map[string]any{"name": f.name})
		return nil
	})
}

func checkChannel(request *certctl.ChannelRequest, team string) error {
	var bad certctl.FieldErrors
	bad.AddError("", request.Validate(team))
	bad.AddError("/settings", asObject(&request.Settings))
	return bad.Err()
}

// setRules replaces what a channel is told.
func (t *tx) setRules(ctx context.Context, channel certctl.ID, rules []certctl.ChannelRule) error {
	if err := t.put(ctx, `delete from channel_rule where channel_id = $1`, channel); err != nil {
		return err
	}
	for i, r := range rules {
		labels, err := json.Marshal(someLabels(r.Labels))
		if err != nil {
			return err
		}
		if err := t.put(ctx, `
			insert into channel_rule (channel_id, n, events, severity, labels, owner, team) values ($1, $2, $3, $4, $5::text::jsonb, $6, $7)`,
			channel, i, some(eventNames(r.Events)), int16(r.Severity), string(labels), r.Owner, r.Team); err != nil { //nolint:gosec // one of four
			return err
		}
	}
	return nil
}

func eventNames(names []certctl.EventName) []string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return texts
}

func (t *tx) channel(ctx context.Context, id certctl.ID) (certctl.Channel, error) {
	channels, err := t.channels(ctx, []certctl.ID{id})
	return channels[id], err
}

// channels reads channels with their rules, archived ones, too.
func (t *tx) channels(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Channel, error) {
	rows, err := t.Query(ctx, `
		select c.id, team.name, c.name, c.kind, c.settings, c.digest_at, c.digest_zone, c.failures, c.message, c.delivered_at,
			c.created_at, c.updated_at, c.archived_at
		from channel c join team on team.id = c.team_id where c.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	channels := make(map[certctl.ID]certctl.Channel, len(ids))
	var c certctl.Channel
	var settings []byte
	if _, err := pgx.ForEachRow(rows, []any{&c.ID, &c.Team, &c.Name, &c.Kind, &settings, &c.DigestAt, &c.DigestZone, &c.Failures, &c.Message,
		&c.DeliveredAt, &c.CreatedAt, &c.UpdatedAt, &c.ArchivedAt}, func() error {
		c.Settings = append(json.RawMessage(nil), settings...)
		channels[c.ID] = c
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = t.Query(ctx, `
		select channel_id, events, severity, labels, owner, team from channel_rule where channel_id = any($1) order by channel_id, n`, ids)
	if err != nil {
		return nil, err
	}
	rules, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r ruleOf, err error) {
		return r, row.Scan(&r.channel, &r.Events, &r.Severity, &r.Labels, &r.Owner, &r.Team)
	})
	for _, r := range rules {
		c := channels[r.channel]
		c.Rules = append(c.Rules, r.ChannelRule)
		channels[r.channel] = c
	}
	return channels, err
}

type ruleOf struct {
	certctl.ChannelRule
	channel certctl.ID
}
