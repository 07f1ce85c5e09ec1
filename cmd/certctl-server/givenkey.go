package main

import (
	"context"
	"os"
	"strings"

	"github.com/certctl/certctl"
)

// shortGivenKey is the length below which a key can be guessed.
const shortGivenKey = 20

// givenKey is the admin's API key that comes from outside, in a file. A process
// acts on what it has not seen there before and on nothing else: replicas get a
// new file at different times, and one that still has the old key must not give
// it again.
type givenKey struct {
	server *server
	seen   string
}

// readGivenKey returns the key in the file.
func readGivenKey(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", certctl.Wrap(certctl.Invalid, err, "the file of the admin's API key cannot be read")
	}
	key := strings.TrimSpace(string(text))
	if key == "" || len(key) > 200 || strings.ContainsAny(key, " \t\r\n") {
		return "", certctl.InvalidField("api_key_file", "%s holds no key: 1 to 200 characters without spaces", path)
	}
	return key, nil
}

// apply gives the key in the file to the admin, unless that is the one it was
// last seen to hold.
func (g *givenKey) apply(ctx context.Context) error {
	key, err := readGivenKey(g.server.config.APIKeyFile)
	if err != nil || key == g.seen {
		return err
	}
	changed, err := g.server.store.GiveAdminKey(ctx, certctl.DigestOf([]byte(key)))
	if err != nil {
		return err
	}
	g.seen = key
	if changed {
		g.server.log.Info().Msg("the admin has a new API key from the file")
	}
	if len(key) < shortGivenKey {
		g.server.log.Warn().Int("characters", len(key)).Msg("the admin's API key is so short that it can be guessed: openssl rand -hex 32 makes one")
	}
	return nil
}

// run looks at the file until ctx ends. What it finds wrong stays as it is: the
// key before is valid.
func (g *givenKey) run(ctx context.Context) error {
	return g.server.follow(ctx, g.apply, "the admin's API key is not replaced")
}
