package notifier

import (
	"context"
	"crypto/tls"
	"net"
	"net/mail"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
	gomail "github.com/wneessen/go-mail"
)

// Relay is a mail server that the installation's configuration names.
type Relay struct {
	Host     string
	Port     int
	TLS      string // starttls, implicit or none
	Username string
	Password string
	From     string
}

// How a connection to a mail server is protected.
const (
	tlsStart    = "starttls" // RFC 3207; refused where the server does not offer it
	tlsImplicit = "implicit" // RFC 8314
	tlsNone     = "none"
)

// The ports of submission (RFC 6409, RFC 8314).
const (
	portSubmission = 587
	portImplicit   = 465
)

// maxMail bounds the text of a mail, in bytes.
const maxMail = 256 << 10

// openEmail tells mailboxes through the channel's own server, or through the relay.
func openEmail(config Config, c connection) (Notifier, error) {
	relay := Relay{Host: c.settings.Host, Port: c.settings.Port, TLS: c.settings.TLS, Username: c.settings.Username,
		Password: c.secret["password"], From: c.settings.From}
	policy := c.policy
	if relay.Host == "" {
		relay, policy = config.Relay, egress.Policy{Private: true} // who configures the server may mean any
		if c.settings.From != "" {
			relay.From = c.settings.From
		}
	}
	switch {
	case relay.Host == "":
		return nil, certctl.Errorf(certctl.Unavailable, "the channel names no mail server, and this worker has none").
			WithRemedy("set host in its settings, or CERTCTL_SMTP_HOST for the workers")
	case relay.From == "":
		return nil, certctl.Errorf(certctl.Unavailable, "nobody says from whom mails are").
			WithRemedy("set from in the channel's settings, or CERTCTL_SMTP_FROM for the workers")
	}
	if relay.TLS == "" {
		relay.TLS = tlsStart
		if relay.Port == portImplicit {
			relay.TLS = tlsImplicit
		}
	}
	if relay.Port == 0 {
		relay.Port = portSubmission
		if relay.TLS == tlsImplicit {
			relay.Port = portImplicit
		}
	}
	if relay.TLS == tlsNone && relay.Username != "" {
		return nil, certctl.Errorf(certctl.Unavailable, "a password is never sent without TLS")
	}
	return together(func(ctx context.Context, all []certctl.Notification) error {
		message, err := c.mail(relay.From, all)
		if err != nil {
			return err
		}
		return c.send(ctx, relay, policy, message)
	}), nil
}

// mail writes one message. Its id is that of the first notification, so that who
// gets it twice may know.
func (c connection) mail(from string, all []certctl.Notification) (*gomail.Msg, error) {
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := message.From(from); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "%q is no sender", certctl.Clip(from, 100))
	}
	if err := message.To(c.settings.To...); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the recipients cannot be used")
	}
	domain := "certctl"
	if address, err := mail.ParseAddress(from); err == nil {
		_, domain, _ = strings.Cut(address.Address, "@")
	}
	message.Subject("[certctl] " + certctl.Clip(title(all), 200))
	message.SetMessageIDWithValue(all[0].ID.String() + "@" + domain)
	message.SetDateWithValue(all[len(all)-1].Event.Time)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's vacation answers
	message.SetBodyString(gomail.TypeTextPlain, bounded(paragraphs(all), maxMail))
	return message, nil
}

// paragraphs are the notifications as people read them in mails.
func paragraphs(all []certctl.Notification) (out []string) {
	for _, n := range all {
		out = append(out, strings.ToUpper(word(n))+" "+summary(n), "  at "+stamp(n.Event.Time))
		for _, pair := range details(n) {
			out = append(out, "  "+pair[0]+": "+pair[1])
		}
		out = append(out, "")
	}
	return out
}

func (c connection) send(ctx context.Context, relay Relay, policy egress.Policy, message *gomail.Msg) error {
	options := []gomail.Option{
		gomail.WithPort(relay.Port), gomail.WithTimeout(requestTime),
		gomail.WithTLSConfig(&tls.Config{ServerName: relay.Host, RootCAs: c.settings.roots(), MinVersion: tls.VersionTLS12}),
	}
	dial := policy.Dialer().DialContext
	switch relay.TLS {
	case tlsImplicit:
		options = append(options, gomail.WithSSL())
		// What go-mail would do itself with a dialer of its own.
		dial = (&tls.Dialer{NetDialer: policy.Dialer(), Config: &tls.Config{
			ServerName: relay.Host, RootCAs: c.settings.roots(), MinVersion: tls.VersionTLS12,
		}}).DialContext
	case tlsStart:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	options = append(options, gomail.WithDialContextFunc(dial))
	if relay.Username != "" {
		// Named, since go-mail takes a connection that it has not dialled for an open one
		// and would not discover PLAIN. Here each is within TLS.
		options = append(options, gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256PLUS, gomail.SMTPAuthSCRAMSHA256,
			gomail.SMTPAuthPlain, gomail.SMTPAuthLogin), gomail.WithUsername(relay.Username), gomail.WithPassword(relay.Password))
	}
	client, err := gomail.NewClient(relay.Host, options...)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the mail server's settings cannot be used: %s", certctl.Clip(err.Error(), 200))
	}
	if err := client.DialAndSendWithContext(ctx, message); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the mail server %s does not take the mail: %s",
			net.JoinHostPort(relay.Host, strconv.Itoa(relay.Port)), certctl.Clip(c.scrub(err.Error()), 200))
	}
	return nil
}

func checkEmail(bad *certctl.FieldErrors, s Settings) {
	if len(s.To) == 0 || len(s.To) > 50 {
		bad.Add("/settings/to", "1 to 50 mail addresses")
	}
	for i, to := range s.To {
		if _, err := mail.ParseAddress(to); err != nil {
			bad.Add("/settings/to/"+strconv.Itoa(i), "%q is no mail address", certctl.Clip(to, 100))
		}
	}
	if s.From != "" {
		if _, err := mail.ParseAddress(s.From); err != nil {
			bad.Add("/settings/from", "%q is no mail address", certctl.Clip(s.From, 100))
		}
	}
	if s.TLS != "" && s.TLS != tlsStart && s.TLS != tlsImplicit && s.TLS != tlsNone {
		bad.Add("/settings/tls", "must be starttls, implicit or none")
	}
	if s.Port < 0 || s.Port > 65535 {
		bad.Add("/settings/port", "must be 1 to 65535")
	}
	if s.Host == "" && (s.Port != 0 || s.TLS != "" || s.Username != "") {
		bad.Add("/settings/host", "is missing: the other settings of a server mean nothing without it")
	}
	if s.TLS == tlsNone && s.Username != "" {
		bad.Add("/settings/tls", "a password is never sent without TLS")
	}
}
