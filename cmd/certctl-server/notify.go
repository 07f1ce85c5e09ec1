package main

import (
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/notifier"
)

// smtpSettings are the mail server of channels of the kind email that name none.
type smtpSettings struct {
	SMTPHost     string `help:"Mail server for channels of the kind email that name none, with role worker. Default: none." name:"smtp-host"`
	SMTPPort     int    `help:"Its port. Default: 587, or 465 with --smtp-tls implicit." name:"smtp-port"`
	SMTPTLS      string `help:"starttls, implicit or none." default:"starttls" enum:"starttls,implicit,none" name:"smtp-tls"`
	SMTPUsername string `help:"Who logs in there." name:"smtp-username"`
	SMTPPassword string `help:"Password for it." secret:"" name:"smtp-password"`
	SMTPFrom     string `help:"From whom mails are." name:"smtp-from"`
}

func (s smtpSettings) check() error {
	switch {
	case s.SMTPHost == "" && (s.SMTPPort != 0 || s.SMTPUsername != "" || s.SMTPPassword != "" || s.SMTPFrom != ""):
		return certctl.InvalidField("smtp_host", "is missing: the other settings of a mail server mean nothing without it")
	case s.SMTPHost != "" && s.SMTPFrom == "":
		return certctl.InvalidField("smtp_from", "is missing: from whom are the mails?")
	case s.SMTPPort < 0 || s.SMTPPort > 65535:
		return certctl.InvalidField("smtp_port", "must be 1 to 65535")
	case s.SMTPUsername != "" && s.SMTPTLS == "none":
		return certctl.InvalidField("smtp_tls", "a password is never sent without TLS")
	}
	return nil
}

func (s smtpSettings) relay() notifier.Relay {
	return notifier.Relay{Host: s.SMTPHost, Port: s.SMTPPort, TLS: s.SMTPTLS, Username: s.SMTPUsername, Password: s.SMTPPassword, From: s.SMTPFrom}
}

// handleNotifications tells channels what is due to them.
func (s *server) handleNotifications(router *bus.Router) {
	config := notifier.Config{Relay: s.config.SMTP.relay()}
	open := func(channel certctl.Channel, sealed []byte) (handlers.Notifier, error) {
		secrets := map[string]string{}
		if len(sealed) > 0 {
			raw, err := s.keys.secrets.Open("channel", channel.ID, "sealed", sealed)
			if err == nil {
				err = json.Unmarshal(raw, &secrets)
			}
			if err != nil {
				return nil, certctl.Wrap(certctl.Unavailable, err, "the secrets of the channel %s cannot be opened", channel.Name)
			}
		}
		return notifier.Open(config, channel, secrets)
	}
	notify := handlers.NewNotify(s.store, open, s.log.With().Str("part", "notifications").Logger())
	router.Handle(certctl.HintNotify, notify.Handle, bus.HandleOptions{Concurrency: 4, Batch: certctl.MaxHintIDs, Deadline: handlers.NotifyDeadline})
}
