package certctl

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

// Prefixes of secrets, by which they are told apart, and found where they do not
// belong.
const (
	APIKeyPrefix    = "cck_"
	JoinTokenPrefix = "cjt_"
)

// shownSecret is how much of a secret lists show, to tell secrets apart.
const shownSecret = 8

// NewSecret returns a prefix and 160 random bits.
func NewSecret(prefix string) string {
	random := make([]byte, 20)
	_, _ = rand.Read(random) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
}

// ShownSecret is the part of a secret that may be shown.
func ShownSecret(secret string) string { return secret[:min(shownSecret, len(secret))] }
