package rest

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// shownPrefix is how much of a secret lists show, to tell secrets apart.
const shownPrefix = 8

// newSecret returns a prefix and 160 random bits.
func newSecret(prefix string) string {
	random := make([]byte, 20)
	_, _ = rand.Read(random) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
}

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
