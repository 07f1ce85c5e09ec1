package certctl

import "time"

// NotificationState is where a notification stands.
type NotificationState string

const (
	NotificationPending   NotificationState = "pending"
	NotificationDelivered NotificationState = "delivered"
	NotificationFailed    NotificationState = "failed" // given up: replayed or discarded by a person
	NotificationDiscarded NotificationState = "discarded"
)

// Notification is the duty to tell one channel of one event. It is written with
// the event, so that there is one whenever there is the other.
type Notification struct {
	ID          ID
	Channel     Ref
	Event       Event
	Severity    Severity
	Ends        bool // the event ends a trouble that the channel was told of
	Keys        []string
	State       NotificationState
	Tries       int
	Message     string // why the last try failed
	DueAt       time.Time
	CreatedAt   time.Time
	DeliveredAt time.Time
}

// NotificationFilter selects notifications.
type NotificationFilter struct {
	PageRequest
	Team    string
	Channel string
	State   NotificationState
}

// Delivery is what one channel is to be told now. While it lasts nobody else
// tells the channel anything.
type Delivery struct {
	Channel       Channel
	Sealed        []byte
	Number        int64 // of the channel's deliveries: that of an older one changes nothing
	Notifications []Notification
}

// DeliveryEnd says how a delivery went: the i-th error is of the i-th
// notification, nil where the channel took it.
type DeliveryEnd struct {
	Delivery   Delivery
	Errs       []error
	RetryAfter time.Duration // that the channel asks for; 0: it does not say
	Draw       float64       // in [0,1), spreads the next try
}

// ErrNotTried is the error of a notification for which a delivery had no time: it is
// told with the next one, and nothing has failed.
var ErrNotTried = &Error{Code: Unavailable, Message: "there was no time to try it"}

// MaxDelivery is how many notifications one delivery takes.
const MaxDelivery = 500

// notifyTries is how often a notification is tried before it waits for a person:
// about a day and a half.
const notifyTries = 12

// GivesUp reports whether a notification that has failed so often, now with err,
// is not tried again: a channel that refuses what it says will not take it later.
func GivesUp(tries int, err error) bool {
	return tries >= notifyTries || ErrorCode(err) == Invalid
}

// Events of channels and notifications.
const (
	EventChannelCreated        EventName = "channel_created"
	EventChannelUpdated        EventName = "channel_updated"
	EventChannelArchived       EventName = "channel_archived"
	EventChannelTested         EventName = "channel_tested"
	EventNotificationFailed    EventName = "notification_failed" // given up
	EventNotificationReplayed  EventName = "notification_replayed"
	EventNotificationDiscarded EventName = "notification_discarded"
)

// AggregateChannel is that of channels.
const AggregateChannel Aggregate = "channel"

// ObjectChannel is the kind of channels and of what they are told.
const ObjectChannel ObjectKind = "channel"

// HintNotify says that channels have something to tell; ids: notifications; no lane.
const HintNotify HintVerb = "notify"

// RetainNotifications are notifications that were delivered or discarded.
const RetainNotifications RetentionKind = "notifications"
