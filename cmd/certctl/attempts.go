package main

import (
	"fmt"
	"net/http"
)

var attemptColumns = columns{"n", "STARTED=started_at", "worker", "ISSUER=issuer", "ASKED=asked", "outcome", "CODE=error_code", "NEXT=retry_at", "message"}

// getOrder prints an order. As a table its attempts are one, below it.
func (s *session) getOrder(name string) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	order, err := client.call(ctx, http.MethodGet, item("/api/v1/orders", name), nil, nil)
	if err != nil {
		return err
	}
	attempts, _ := order["attempts"].([]any) // none before the first
	if s.globals.Output != "table" || len(attempts) == 0 {
		return s.showOne(order)
	}
	delete(order, "attempts")
	if err := s.showOne(order); err != nil {
		return err
	}
	for _, attempt := range attempts {
		if a, ok := attempt.(map[string]any); ok {
			a["asked"] = asked(a)
		}
	}
	fmt.Fprintln(s.out)
	return s.show(attempts, attemptColumns)
}

// asked is what an attempt wanted of its CA: the CA's own order, or the serial
// number that was reserved.
func asked(attempt map[string]any) string {
	for _, field := range []string{"external_url", "serial"} {
		if text, ok := attempt[field].(string); ok && text != "" {
			return text
		}
	}
	return "a leaf"
}
