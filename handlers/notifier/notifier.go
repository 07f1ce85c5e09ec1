// Package notifier is the list of kinds of channels in which people are told of
// events, and how each is told.
//
// A kind of channel that people read takes all that is due in one message; one that
// programs read, such as an on-call service, takes each notification by itself, with
// a key by which a repetition is known. Nothing here remembers anything: what is
// pending, how often it was tried and when it is tried again is the store's.
package notifier

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
)

// Notifier tells one channel.
type Notifier interface {
	// Notify tells of notifications and returns an error for each: nil once the
	// channel has taken it. An Invalid one says that it never will.
	Notify(ctx context.Context, notifications []certctl.Notification) []error
}

// Descriptor describes one kind.
type Descriptor struct {
	Kind    string
	Title   string
	Secrets []string // names of settings that are sealed, write-only in the API
	// Required are those of the secrets that a channel cannot do without.
	Required []string
	open     func(Config, connection) (Notifier, error)
	// secret refuses secrets that cannot be what they are said to be; nil: any may.
	secret func(map[string]string) error
	// check refuses settings that cannot work; nil: the common ones are all.
	check func(*certctl.FieldErrors, Settings)
}

// Config is what channels share.
type Config struct {
	Relay Relay // of channels of the kind email that name no server
}

// kinds is the table: a new kind is a file and one line here.
var kinds = []Descriptor{
	{Kind: "email", Title: "E-mail", Secrets: []string{"password"}, open: openEmail, check: checkEmail},
	{Kind: "slack", Title: "Slack", Secrets: []string{"url"}, Required: []string{"url"}, secret: checkHook, open: openSlack},
	{Kind: "teams", Title: "Microsoft Teams, by the web hook of a workflow", Secrets: []string{"url"}, Required: []string{"url"}, secret: checkHook, open: openTeams},
	{Kind: "mattermost", Title: "Mattermost", Secrets: []string{"url"}, Required: []string{"url"}, secret: checkHook, open: openMattermost},
	{Kind: "discord", Title: "Discord", Secrets: []string{"url"}, Required: []string{"url"}, secret: checkHook, open: openDiscord},
	{Kind: "telegram", Title: "Telegram", Secrets: []string{"token"}, Required: []string{"token"}, open: openTelegram, check: checkTelegram},
	{Kind: "pagerduty", Title: "PagerDuty, Events API v2", Secrets: []string{"routing_key"}, Required: []string{"routing_key"}, open: openPagerDuty},
	{Kind: "opsgenie", Title: "Opsgenie", Secrets: []string{"api_key"}, Required: []string{"api_key"}, open: openOpsgenie},
	{Kind: "webhook", Title: "The web hook, signed as Standard Webhooks say", Secrets: []string{"secret"}, Required: []string{"secret"}, open: openWebhook, check: checkWebhook, secret: checkSigning},
}

// Settings of a channel. Each kind has those that its page in docs/notifications.md
// names, and refuses the others.
type Settings struct {
	URL      string `json:"url,omitempty"`       // webhook: where to; pagerduty, opsgenie, telegram: instead of the service's own
	CABundle string `json:"ca_bundle,omitempty"` // PEM: roots of the server
	Private  bool   `json:"allow_private_networks,omitempty"`

	Channel string `json:"channel,omitempty"` // slack, mattermost: instead of the web hook's own
	ChatID  string `json:"chat_id,omitempty"` // telegram

	To       []string `json:"to,omitempty"` // email, as all below
	From     string   `json:"from,omitempty"`
	Host     string   `json:"host,omitempty"`
	Port     int      `json:"port,omitempty"`
	TLS      string   `json:"tls,omitempty"` // starttls, implicit, none
	Username string   `json:"username,omitempty"`
}

// fieldsOf are the settings of each kind; a kind that is not named has the common ones.
var fieldsOf = map[string][]string{
	"email":      {"to", "from", "host", "port", "tls", "username"},
	"slack":      {"channel"},
	"mattermost": {"channel"},
	"telegram":   {"chat_id", "url"},
	"pagerduty":  {"url"},
	"opsgenie":   {"url"},
	"webhook":    {"url"},
}

var commonFields = []string{"ca_bundle", "allow_private_networks"}

// connection is one channel as it is told.
type connection struct {
	name     string // of the service, for messages
	settings Settings
	secret   map[string]string
	policy   egress.Policy
	client   *http.Client
}

// Kinds is the table as the API asks it.
type Kinds struct{}

// Validate refuses an unknown kind, or settings that its kind refuses.
func (Kinds) Validate(kind string, raw json.RawMessage) error {
	descriptor, err := find(kind)
	if err != nil {
		return err
	}
	_, err = descriptor.settings(raw)
	return err
}

// CheckSecrets refuses secrets that a kind does not have or cannot use, and, of a
// new channel, the lack of one that it needs.
func (Kinds) CheckSecrets(kind string, secrets map[string]string, fresh bool) error {
	descriptor, err := find(kind)
	if err != nil {
		return err
	}
	var bad certctl.FieldErrors
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if !slices.Contains(descriptor.Secrets, name) {
			bad.Add("/secrets/"+certctl.Clip(name, 40), "a channel of the kind %s has no such secret", kind)
		}
	}
	for _, name := range descriptor.Required {
		if secrets[name] == "" && (fresh || len(secrets) > 0) {
			bad.Add("/secrets/"+name, "is missing")
		}
	}
	if len(bad) == 0 && len(secrets) > 0 && descriptor.secret != nil {
		bad.AddError("", descriptor.secret(secrets))
	}
	return bad.Err()
}

// Open returns what tells a channel. Nothing is asked yet.
func Open(config Config, channel certctl.Channel, secrets map[string]string) (Notifier, error) {
	descriptor, err := find(channel.Kind)
	if err != nil {
		return nil, certctl.Errorf(certctl.Unavailable, "this worker knows no channels of the kind %s", channel.Kind).WithRemedy("update the workers")
	}
	settings, err := descriptor.settings(channel.Settings)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the settings of the channel %s cannot be used: %s", channel.Name, certctl.ErrorMessage(err))
	}
	for _, name := range descriptor.Required {
		if secrets[name] == "" {
			return nil, certctl.Errorf(certctl.Unavailable, "the channel %s has no secret %s", channel.Name, name)
		}
	}
	name, _, _ := strings.Cut(descriptor.Title, ",")
	c := connection{name: name, settings: settings, secret: secrets, policy: egress.Policy{Private: settings.Private}}
	c.client = c.policy.Client(settings.roots())
	n, err := descriptor.open(config, c)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the channel %s cannot be used: %s", channel.Name, certctl.ErrorMessage(err))
	}
	return n, nil
}

func find(kind string) (Descriptor, error) {
	i := slices.IndexFunc(kinds, func(d Descriptor) bool { return d.Kind == kind })
	if i < 0 {
		var known []string
		for _, d := range kinds {
			known = append(known, d.Kind)
		}
		return Descriptor{}, certctl.InvalidField("/kind", "there is no kind of channel %q: use one of %s",
			certctl.Clip(kind, 40), strings.Join(known, ", "))
	}
	return kinds[i], nil
}

// settings reads the settings of a kind, and refuses those that it does not have.
func (d Descriptor) settings(raw json.RawMessage) (Settings, error) {
	var s Settings
	var given map[string]json.RawMessage
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return s, certctl.InvalidField("/settings", "must be an object")
	}
	var bad certctl.FieldErrors
	for _, field := range slices.Sorted(maps.Keys(given)) {
		switch {
		case slices.Contains(d.Secrets, field):
			bad.Add("/settings/"+field, "is a secret: give it under secrets")
		case !slices.Contains(fieldsOf[d.Kind], field) && !slices.Contains(commonFields, field):
			bad.Add("/settings/"+certctl.Clip(field, 40), "a channel of the kind %s has no such setting", d.Kind)
		}
	}
	if err := bad.Err(); err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, certctl.InvalidField("/settings", "not the settings of a channel: %s", certctl.Clip(err.Error(), 200))
	}
	if s.CABundle != "" && s.roots() == nil {
		bad.Add("/settings/ca_bundle", "holds no PEM certificate")
	}
	if s.URL != "" {
		bad.AddError("/settings/url", checkURL(s.URL))
	}
	if d.check != nil {
		d.check(&bad, s)
	}
	return s, bad.Err()
}

// roots are those of the bundle, or nil for the system's.
func (s Settings) roots() *x509.CertPool {
	if s.CABundle == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.CABundle)) {
		return nil
	}
	return pool
}

// checkHook refuses a URL, which is a secret, that cannot be one.
func checkHook(secrets map[string]string) error {
	if err := checkURL(secrets["url"]); err != nil {
		return certctl.InvalidField("/secrets/url", "%s", certctl.ErrorMessage(err))
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return certctl.Errorf(certctl.Invalid, "must be an https URL without a user")
	}
	return nil
}

// together is a notifier that takes all in one message.
type together func(context.Context, []certctl.Notification) error

func (f together) Notify(ctx context.Context, all []certctl.Notification) []error {
	errs := make([]error, len(all))
	if len(all) == 0 {
		return errs
	}
	if err := f(ctx, all); err != nil {
		// Nobody knows which of them it did not like: each is told by itself.
		if certctl.ErrorCode(err) == certctl.Invalid && len(all) > 1 {
			return each(func(ctx context.Context, n certctl.Notification) error {
				return f(ctx, []certctl.Notification{n})
			}).Notify(ctx, all)
		}
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// each is a notifier that takes one notification at a time.
type each func(context.Context, certctl.Notification) error

func (f each) Notify(ctx context.Context, all []certctl.Notification) []error {
	errs := make([]error, len(all))
	for i, n := range all {
		if end, ok := ctx.Deadline(); ok && i > 0 && time.Until(end) < requestTime {
			for j := i; j < len(all); j++ {
				errs[j] = certctl.ErrNotTried
			}
			return errs
		}
		errs[i] = f(ctx, n)
		if code := certctl.ErrorCode(errs[i]); errs[i] != nil && code != certctl.Invalid {
			// It is down or wants fewer: the rest would fare the same.
			for j := i + 1; j < len(all); j++ {
				errs[j] = errs[i]
			}
			return errs
		}
	}
	return errs
}
