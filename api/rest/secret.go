package rest

import (
	"time"

	"github.com/certctl/certctl"
)

// maxLifetime bounds the life of tokens, keys and credentials that have one.
const maxLifetime = 10 * 365 * certctl.Day

// lifetime reads a duration of a request.
func lifetime(field, text string, otherwise time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	life, err := certctl.ParseDuration(text)
	if err != nil {
		return 0, asField(field, err)
	}
	if life <= 0 || time.Duration(life) > maxLifetime {
		return 0, certctl.InvalidField(field, "must be positive and at most %s", certctl.Duration(maxLifetime))
	}
	return time.Duration(life), nil
}
