package handlers_test

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/notifier"
)

// listener is a program that takes web hooks.
type listener struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	ids    []string
	names  []string
}

func (w *world) listener(name string, rules ...certctl.ChannelRule) *listener {
	w.t.Helper()
	l := &listener{status: http.StatusNoContent}
	l.Server = httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event struct{ Type string }
		_ = json.Unmarshal(body, &event)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ids, l.names = append(l.ids, r.Header.Get("Webhook-Id")), append(l.names, event.Type)
		out.WriteHeader(l.status)
	}))
	w.t.Cleanup(l.Close)
	settings, err := json.Marshal(map[string]any{
		"url": l.URL, "allow_private_networks": true,
		"ca_bundle": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.Certificate().Raw})),
	})
	w.must(err)
	id := certctl.NewID(time.Now())
	sealed, err := w.sealer.Seal("channel", id, "sealed", []byte(`{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`))
	w.must(err)
	_, err = w.CreateChannel(w.ctx, w.admin, certctl.ChannelRequest{ID: id, Name: name, Kind: "webhook", Settings: settings, Sealed: sealed, Rules: rules})
	w.must(err)
	return l
}

// notify has a worker look at what the dispatcher finds due.
func (w *world) notify() {
	w.t.Helper()
	notify := handlers.NewNotify(w.Store, func(channel certctl.Channel, sealed []byte) (handlers.Notifier, error) {
		raw, err := w.sealer.Open("channel", channel.ID, "sealed", sealed)
		if err != nil {
			return nil, err
		}
		var secrets map[string]string
		if err := json.Unmarshal(raw, &secrets); err != nil {
			return nil, err
		}
		return notifier.Open(notifier.Config{}, channel, secrets)
	}, testLog(w.t))
	hints, err := w.ClaimDue(w.ctx, 1000, time.Second)
	w.must(err)
	for _, hint := range hints {
		if hint.Verb == certctl.HintNotify {
			w.must(notify.Handle(w.ctx, hint))
		}
	}
}

func (w *world) testChannel(name string) certctl.Notification {
	w.t.Helper()
	n, err := w.TestChannel(w.ctx, w.admin, name)
	w.must(err)
	return n
}

func (w *world) told(n certctl.Notification) certctl.Notification {
	w.t.Helper()
	n, err := w.GetNotification(w.ctx, w.admin, n.ID)
	w.must(err)
	return n
}

// Nothing but rows leads from an event to its channel: neither a bus nor the
// process that wrote the event.
func TestAnEventReachesItsChannelFromTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.listener("automation", certctl.ChannelRule{Events: []certctl.EventName{certctl.EventIssuerPaused, certctl.EventIssuerResumed}})
	for _, pause := range []bool{true, false} {
		_, err := w.PauseIssuer(w.ctx, w.admin, "local", pause)
		w.must(err)
	}
	w.notify()
	w.notify()
	if len(l.names) != 2 || l.names[0] != "issuer_paused" || l.names[1] != "issuer_resumed" {
		t.Errorf("told %v", l.names)
	}
}

func TestAChannelThatIsDownHearsItLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.listener("automation")
	other := w.listener("other")
	l.status = http.StatusServiceUnavailable
	n, m := w.testChannel("automation"), w.testChannel("other")
	w.notify()
	if n = w.told(n); n.State != certctl.NotificationPending || n.Tries != 1 || n.Message == "" || !n.DueAt.After(time.Now().Add(45*time.Second)) {
		t.Errorf("after a failure %+v", n)
	}
	if m = w.told(m); m.State != certctl.NotificationDelivered || len(other.ids) != 1 {
		t.Errorf("the other channel waits for the one that is down: %+v", m)
	}
	l.status = http.StatusOK
	_, err := w.Pool().Exec(w.ctx, `update channel set wait_until = null`)
	w.must(err)
	_, err = w.Pool().Exec(w.ctx, `update due set due_at = now() where kind = 'notification'`)
	w.must(err)
	w.notify()
	if n = w.told(n); n.State != certctl.NotificationDelivered || n.Message != "" {
		t.Errorf("later %+v", n)
	}
	if len(l.ids) != 2 || l.ids[0] != l.ids[1] {
		t.Errorf("the ids of one notification: %v", l.ids)
	}
}

// Secrets that were sealed for one channel open for no other.
func TestASecretIsOfItsChannelAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listener("one")
	two := w.listener("two")
	_, err := w.Pool().Exec(w.ctx, `update channel set sealed = (select sealed from channel where name = 'one') where name = 'two'`)
	w.must(err)
	n := w.testChannel("two")
	w.notify()
	if n = w.told(n); n.State != certctl.NotificationPending || n.Tries != 1 || len(two.ids) != 0 {
		t.Errorf("%+v, told %v", n, two.ids)
	}
}
