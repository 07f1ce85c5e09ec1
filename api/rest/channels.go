package rest

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// ChannelStore holds who is told of events, and what they have been told.
type ChannelStore interface {
	CreateChannel(ctx context.Context, actor certctl.Actor, request certctl.ChannelRequest) (certctl.Channel, error)
	GetChannel(ctx context.Context, actor certctl.Actor, ref string) (certctl.Channel, error)
	ListChannels(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Channel], error)
	UpdateChannel(ctx context.Context, actor certctl.Actor, ref string, request certctl.ChannelRequest) (certctl.Channel, error)
	ArchiveChannel(ctx context.Context, actor certctl.Actor, ref string) error
	TestChannel(ctx context.Context, actor certctl.Actor, ref string) (certctl.Notification, error)
	ListNotifications(ctx context.Context, actor certctl.Actor, filter certctl.NotificationFilter) (certctl.Page[certctl.Notification], error)
	GetNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Notification, error)
	ReplayNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) error
	DiscardNotification(ctx context.Context, actor certctl.Actor, id certctl.ID) error
}

// ChannelKinds knows which settings and secrets each kind of channel has.
type ChannelKinds interface {
	Validate(kind string, settings json.RawMessage) error
	CheckSecrets(kind string, secrets map[string]string, fresh bool) error
}

func channelOf(c certctl.Channel) gen.Channel {
	return gen.Channel{
		ID: c.ID, Name: c.Name, Team: c.Team, Kind: c.Kind, Settings: fields(c.Settings), Rules: each(c.Rules, channelRuleOf),
		Digest: gen.Digest{At: c.DigestAt, Zone: c.DigestZone}, Failures: c.Failures, Message: c.Message,
		DeliveredAt: c.DeliveredAt, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
}

func channelRuleOf(r certctl.ChannelRule) gen.ChannelRule {
	return gen.ChannelRule{
		Events: each(r.Events, func(n certctl.EventName) string { return string(n) }), Severity: gen.ChannelRuleSeverity(r.Severity.String()),
		Labels: r.Labels, Owner: r.Owner, Team: r.Team,
	}
}

func notificationOf(n certctl.Notification) gen.Notification {
	out := gen.Notification{
		ID: n.ID, Channel: refOf(n.Channel), Event: n.Event.ID, Name: string(n.Event.Name), Object: n.Event.Object, Severity: n.Severity.String(),
		Ends: n.Ends, State: string(n.State), Tries: n.Tries, Message: n.Message, DueAt: n.DueAt, CreatedAt: n.CreatedAt, DeliveredAt: n.DeliveredAt,
	}
	if n.Event.Name != "" {
		out.Title = n.Event.Name.Title()
	}
	return out
}

// channelRequest reads a channel; its kind judges settings and secrets, which are
// sealed for the channel with this id.
func (s *Server) channelRequest(id certctl.ID, b gen.ChannelRequest, fresh bool) (certctl.ChannelRequest, error) {
	request := certctl.ChannelRequest{ID: id, Team: b.Team, Name: b.Name, Kind: b.Kind, DigestAt: b.Digest.At, DigestZone: b.Digest.Zone}
	var err error
	if request.Settings, err = object(b.Settings); err != nil {
		return request, err
	}
	var bad certctl.FieldErrors
	for _, r := range b.Rules {
		rule := certctl.ChannelRule{Labels: r.Labels, Owner: r.Owner, Team: r.Team}
		for _, name := range r.Events {
			rule.Events = append(rule.Events, certctl.EventName(name))
		}
		if r.Severity != "" {
			rule.Severity, err = certctl.ParseSeverity(string(r.Severity))
			bad.AddError("/rules", err)
		}
		request.Rules = append(request.Rules, rule)
	}
	bad.AddError("", s.Channels.Validate(b.Kind, request.Settings))
	if len(bad) == 0 {
		bad.AddError("", s.Channels.CheckSecrets(b.Kind, b.Secrets, fresh))
	}
	if err := bad.Err(); err != nil || len(b.Secrets) == 0 {
		return request, err
	}
	encoded, err := json.Marshal(b.Secrets)
	if err != nil {
		return request, certctl.Wrap(certctl.Internal, err, "the secrets cannot be encoded")
	}
	request.Sealed, err = s.Seal("channel", id, "sealed", encoded)
	return request, err
}

// CreateChannel makes one. Its secrets can be replaced and never read.
func (s *Server) CreateChannel(ctx context.Context, r gen.CreateChannelRequestObject) (gen.CreateChannelResponseObject, error) {
	request, err := s.channelRequest(certctl.NewID(s.Now()), *r.Body, true)
	if err != nil {
		return nil, err
	}
	channel, err := s.store.CreateChannel(ctx, actorOf(ctx), request)
	return gen.CreateChannel201JSONResponse{
		Body: channelOf(channel), Headers: gen.CreateChannel201ResponseHeaders{Location: "/api/v1/channels/" + channel.ID.String()},
	}, err
}

// GetChannel shows one.
func (s *Server) GetChannel(ctx context.Context, r gen.GetChannelRequestObject) (gen.GetChannelResponseObject, error) {
	channel, err := s.store.GetChannel(ctx, actorOf(ctx), r.Channel)
	return gen.GetChannel200JSONResponse(channelOf(channel)), err
}

// ListChannels shows one page.
func (s *Server) ListChannels(ctx context.Context, r gen.ListChannelsRequestObject) (gen.ListChannelsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListChannels(ctx, actorOf(ctx), named(p.Cursor, p.Limit, p.Team))
	return gen.ListChannels200JSONResponse{Items: each(page.Items, channelOf), NextCursor: page.Next}, err
}

// UpdateChannel replaces one's settings and rules; secrets that are left out stay.
func (s *Server) UpdateChannel(ctx context.Context, r gen.UpdateChannelRequestObject) (gen.UpdateChannelResponseObject, error) {
	channel, err := s.store.GetChannel(ctx, actorOf(ctx), r.Channel)
	if err != nil {
		return nil, err
	}
	request, err := s.channelRequest(channel.ID, *r.Body, false)
	if err != nil {
		return nil, err
	}
	channel, err = s.store.UpdateChannel(ctx, actorOf(ctx), channel.ID.String(), request)
	return gen.UpdateChannel200JSONResponse(channelOf(channel)), err
}

// ArchiveChannel ends one.
func (s *Server) ArchiveChannel(ctx context.Context, r gen.ArchiveChannelRequestObject) (gen.ArchiveChannelResponseObject, error) {
	return gen.ArchiveChannel204Response{}, s.store.ArchiveChannel(ctx, actorOf(ctx), r.Channel)
}

// TestChannel has one told of a test.
func (s *Server) TestChannel(ctx context.Context, r gen.TestChannelRequestObject) (gen.TestChannelResponseObject, error) {
	n, err := s.store.TestChannel(ctx, actorOf(ctx), r.Channel)
	return gen.TestChannel202JSONResponse(notificationOf(n)), err
}

// ListNotifications shows one page.
func (s *Server) ListNotifications(ctx context.Context, r gen.ListNotificationsRequestObject) (gen.ListNotificationsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListNotifications(ctx, actorOf(ctx), certctl.NotificationFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Channel: p.Channel, State: certctl.NotificationState(p.State),
	})
	return gen.ListNotifications200JSONResponse{Items: each(page.Items, notificationOf), NextCursor: page.Next}, err
}

// GetNotification shows one.
func (s *Server) GetNotification(ctx context.Context, r gen.GetNotificationRequestObject) (gen.GetNotificationResponseObject, error) {
	n, err := s.store.GetNotification(ctx, actorOf(ctx), r.ID)
	return gen.GetNotification200JSONResponse(notificationOf(n)), err
}

// ReplayNotification has one told again.
func (s *Server) ReplayNotification(ctx context.Context, r gen.ReplayNotificationRequestObject) (gen.ReplayNotificationResponseObject, error) {
	return gen.ReplayNotification204Response{}, s.store.ReplayNotification(ctx, actorOf(ctx), r.ID)
}

// DiscardNotification takes one off the list.
func (s *Server) DiscardNotification(ctx context.Context, r gen.DiscardNotificationRequestObject) (gen.DiscardNotificationResponseObject, error) {
	return gen.DiscardNotification204Response{}, s.store.DiscardNotification(ctx, actorOf(ctx), r.ID)
}
