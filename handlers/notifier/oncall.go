package notifier

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/certctl/certctl"
)

// incidents are the keys of what a notification begins or ends at an on-call
// service: one for each trouble, else one of its own.
func incidents(n certctl.Notification) []string {
	if len(n.Keys) == 0 {
		return []string{"certctl/event/" + n.Event.ID.String()}
	}
	keys := make([]string, len(n.Keys))
	for i, key := range n.Keys {
		keys[i] = "certctl/" + n.Event.Object.String() + "/" + key
	}
	return keys
}

func detailMap(n certctl.Notification) map[string]string {
	all := map[string]string{"event": string(n.Event.Name), "event_id": n.Event.ID.String(), "object": n.Event.Object.String()}
	for _, pair := range details(n) {
		all[pair[0]] = pair[1]
	}
	return all
}

// openPagerDuty triggers and resolves incidents by PagerDuty's Events API v2.
func openPagerDuty(_ Config, c connection) (Notifier, error) {
	to := "https://events.pagerduty.com/v2/enqueue"
	if c.settings.URL != "" {
		to = c.settings.URL
	}
	return each(func(ctx context.Context, n certctl.Notification) error {
		action := "trigger"
		if n.Ends {
			action = "resolve"
		}
		for _, key := range incidents(n) {
			body := object{"routing_key": c.secret["routing_key"], "event_action": action, "dedup_key": key}
			if !n.Ends {
				body["payload"] = object{
					"summary": certctl.Clip(summary(n), 1000), "source": "certctl", "severity": n.Severity.String(),
					"timestamp": n.Event.Time, "component": factsOf(n.Event).Name, "class": string(n.Event.Name), "custom_details": detailMap(n),
				}
			}
			if err := c.post(ctx, to, nil, body); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// priorities of Opsgenie.
var priorities = map[certctl.Severity]string{
	certctl.SeverityInfo: "P5", certctl.SeverityWarning: "P4", certctl.SeverityError: "P3", certctl.SeverityCritical: "P1",
}

// openOpsgenie creates and closes alerts by Opsgenie's Alert API.
func openOpsgenie(_ Config, c connection) (Notifier, error) {
	base := "https://api.opsgenie.com"
	if c.settings.URL != "" {
		base = strings.TrimSuffix(c.settings.URL, "/")
	}
	header := http.Header{"Authorization": {"GenieKey " + c.secret["api_key"]}}
	return each(func(ctx context.Context, n certctl.Notification) error {
		for _, alias := range incidents(n) {
			to, body := base+"/v2/alerts", object{
				"message": certctl.Clip(summary(n), 125), "alias": alias, "priority": priorities[n.Severity], "source": "certctl",
				"details": detailMap(n), "tags": []string{"certctl", string(n.Event.Name)},
			}
			if n.Ends {
				to, body = base+"/v2/alerts/"+url.PathEscape(alias)+"/close?identifierType=alias", object{"source": "certctl", "note": summary(n)}
			}
			if err := c.post(ctx, to, header, body); err != nil {
				return err
			}
		}
		return nil
	}), nil
}
