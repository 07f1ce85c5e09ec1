package notifier

import (
	"context"
	"net/url"
	"strings"

	"github.com/certctl/certctl"
)

// How many bytes of text services take in one message.
const (
	slackText      = 40000
	mattermostText = 16000
	discordText    = 2000 // characters; bytes are at least as many
	telegramText   = 4096
	teamsText      = 20000 // of 28 KB
)

// object is a JSON object.
type object = map[string]any

// openSlack tells an incoming web hook of Slack.
func openSlack(_ Config, c connection) (Notifier, error) {
	// Slack has three characters that mean something to it.
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	return chat(c, func(all []certctl.Notification) object {
		body := object{"text": bounded(lines(all, escape), slackText)}
		if c.settings.Channel != "" {
			body["channel"] = c.settings.Channel
		}
		return body
	}), nil
}

// openMattermost tells an incoming web hook of Mattermost. What looks like its
// markup or a mention is quoted.
func openMattermost(_ Config, c connection) (Notifier, error) {
	escape := strings.NewReplacer("@", "@\u200b", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "#", `\#`).Replace
	return chat(c, func(all []certctl.Notification) object {
		body := object{"text": bounded(lines(all, escape), mattermostText)}
		if c.settings.Channel != "" {
			body["channel"] = c.settings.Channel
		}
		return body
	}), nil
}

// openDiscord tells a web hook of Discord; nobody is mentioned.
func openDiscord(_ Config, c connection) (Notifier, error) {
	escape := strings.NewReplacer("*", `\*`, "_", `\_`, "`", "\\`", "~", `\~`, "|", `\|`).Replace
	return chat(c, func(all []certctl.Notification) object {
		return object{"content": bounded(lines(all, escape), discordText), "allowed_mentions": object{"parse": []string{}}}
	}), nil
}

// openTeams tells a workflow of Microsoft Teams that posts adaptive cards.
func openTeams(_ Config, c connection) (Notifier, error) {
	return chat(c, func(all []certctl.Notification) object {
		blocks := []object{{"type": "TextBlock", "text": title(all), "weight": "Bolder", "wrap": true, "color": teamsColour(worst(all))}}
		for _, line := range strings.Split(bounded(lines(all, asIs), teamsText), "\n") {
			blocks = append(blocks, object{"type": "TextBlock", "text": line, "wrap": true})
		}
		return object{"type": "message", "attachments": []object{{
			"contentType": "application/vnd.microsoft.card.adaptive",
			"content": object{
				"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks,
			},
		}}}
	}), nil
}

func teamsColour(n certctl.Notification) string {
	switch {
	case n.Ends:
		return "Good"
	case n.Severity >= certctl.SeverityError:
		return "Attention"
	case n.Severity == certctl.SeverityWarning:
		return "Warning"
	}
	return "Default"
}

// chat posts one message to the URL that is the channel's secret.
func chat(c connection, body func([]certctl.Notification) object) Notifier {
	return together(func(ctx context.Context, all []certctl.Notification) error {
		return c.post(ctx, c.secret["url"], nil, body(all))
	})
}

// openTelegram tells a chat, as a bot.
func openTelegram(_ Config, c connection) (Notifier, error) {
	base := "https://api.telegram.org"
	if c.settings.URL != "" {
		base = strings.TrimSuffix(c.settings.URL, "/")
	}
	return together(func(ctx context.Context, all []certctl.Notification) error {
		return c.post(ctx, base+"/bot"+url.PathEscape(c.secret["token"])+"/sendMessage", nil, object{
			"chat_id": c.settings.ChatID, "text": bounded(lines(all, asIs), telegramText), "disable_web_page_preview": true,
		})
	}), nil
}

func checkTelegram(bad *certctl.FieldErrors, s Settings) {
	if s.ChatID == "" {
		bad.Add("/settings/chat_id", "is missing")
	}
}
