package handlers

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// NotifyStore knows what channels are to be told.
type NotifyStore interface {
	BeginDeliveries(ctx context.Context, ids []certctl.ID, lease time.Duration) ([]certctl.Delivery, error)
	FinishDelivery(ctx context.Context, end certctl.DeliveryEnd) error
}

// Notifier tells one channel; see notifier.Notifier.
type Notifier interface {
	Notify(ctx context.Context, notifications []certctl.Notification) []error
}

// OpenChannel returns what tells a channel.
type OpenChannel func(channel certctl.Channel, sealed []byte) (Notifier, error)

// Times of a delivery. What is not told when its time is over is told again: the
// lease outlives it, so that nobody else begins meanwhile.
const (
	NotifyDeadline = 2 * time.Minute
	notifyLease    = NotifyDeadline + 30*time.Second
)

// notifyChannels is how many channels one process tells at once: a slow one keeps
// no other waiting.
const notifyChannels = 16

// Notify tells channels what is due to them.
type Notify struct {
	store NotifyStore
	open  OpenChannel
	log   zerolog.Logger
}

// NewNotify returns the handler.
func NewNotify(store NotifyStore, open OpenChannel, log zerolog.Logger) *Notify {
	return &Notify{store: store, open: open, log: log}
}

// Handle tells the channels of the notifications that the hint names.
func (h *Notify) Handle(ctx context.Context, hint certctl.Hint) error {
	deliveries, err := h.store.BeginDeliveries(ctx, hint.IDs, notifyLease)
	if err != nil {
		return err
	}
	errs := make([]error, len(deliveries))
	parallel(len(deliveries), notifyChannels, func(i int) {
		errs[i] = h.store.FinishDelivery(context.WithoutCancel(ctx), h.tell(ctx, deliveries[i]))
	})
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

func (h *Notify) tell(ctx context.Context, d certctl.Delivery) certctl.DeliveryEnd {
	end := certctl.DeliveryEnd{Delivery: d, Errs: make([]error, len(d.Notifications)), Draw: rand.Float64()}
	if len(d.Notifications) == 0 {
		return end
	}
	channel, err := h.open(d.Channel, d.Sealed)
	if err == nil {
		end.Errs = channel.Notify(ctx, d.Notifications)
	} else {
		for i := range end.Errs {
			end.Errs[i] = err
		}
	}
	failed := 0
	for _, failure := range end.Errs {
		if failure == nil || errors.Is(failure, certctl.ErrNotTried) {
			continue
		}
		failed, err = failed+1, failure
		var said *certctl.Error
		if errors.As(failure, &said) {
			end.RetryAfter = max(end.RetryAfter, said.RetryAfter)
		}
	}
	line := h.log.Info()
	if failed > 0 {
		line = h.log.Warn().Err(err).Int("failed", failed)
	}
	line.Str("channel", d.Channel.Name).Int("notifications", len(d.Notifications)).Msg("channel told")
	return end
}
