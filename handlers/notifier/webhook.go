package notifier

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// secretPrefix stands before the base64 of a signing secret.
const secretPrefix = "whsec_"

// webhookEvent is the body of a web hook.
type webhookEvent struct {
	Type      certctl.EventName `json:"type"`
	Timestamp time.Time         `json:"timestamp"`
	Severity  string            `json:"severity"`
	Ends      bool              `json:"ends,omitempty"` // a trouble is over
	Keys      []string          `json:"keys,omitempty"` // of the troubles that begin or end
	Data      certctl.Event     `json:"data"`
}

// openWebhook posts each event, signed as Standard Webhooks describe it: the id is
// that of the notification, and the same when it is told again.
func openWebhook(_ Config, c connection) (Notifier, error) {
	key, err := signingKey(c.secret["secret"])
	if err != nil {
		return nil, err
	}
	return each(func(ctx context.Context, n certctl.Notification) error {
		body, err := json.Marshal(webhookEvent{
			Type: n.Event.Name, Timestamp: n.Event.Time, Severity: n.Severity.String(), Ends: n.Ends, Keys: n.Keys, Data: n.Event,
		})
		if err != nil {
			return certctl.Wrap(certctl.Internal, err, "the event cannot be encoded")
		}
		id, at := "msg_"+n.ID.String(), strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(id + "." + at + "." + string(body))) // never fails
		return c.post(ctx, c.settings.URL, http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
		}, body)
	}), nil
}

// signingKey reads a secret as its receivers have it: whsec_ and 24 to 64 bytes in
// base64.
func signingKey(secret string) ([]byte, error) {
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !prefixed || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, certctl.InvalidField("/secrets/secret", "must be whsec_ and the base64 of 24 to 64 bytes").
			WithRemedy("make one with: echo whsec_$(head -c 32 /dev/urandom | base64)")
	}
	return key, nil
}

func checkSigning(secrets map[string]string) error {
	_, err := signingKey(secrets["secret"])
	return err
}

func checkWebhook(bad *certctl.FieldErrors, s Settings) {
	if s.URL == "" {
		bad.Add("/settings/url", "is missing")
	}
}
