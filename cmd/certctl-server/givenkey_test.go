package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"github.com/rs/zerolog"
)

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }

// Two replicas get a new file at different times.
func TestGivenKeyIsReplacedByAChangedFile(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), storetest.URL(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	replica := func() *server {
		t.Helper()
		s := &server{store: st, log: zerolog.Nop(), config: &Config{APIKeyFile: filepath.Join(t.TempDir(), "api-key")}}
		write(t, s.config.APIKeyFile, "the-key-of-the-first-day\n")
		if err := s.bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	valid := func(key string) bool {
		t.Helper()
		p, err := st.AuthenticateKey(t.Context(), certctl.DigestOf([]byte(key)))
		return err == nil && p.Name == "admin"
	}
	early, late := replica(), replica()
	write(t, early.config.APIKeyFile, "another-key-of-the-second-day")
	for _, s := range []*server{early, late} {
		if err := s.given.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if valid("the-key-of-the-first-day") || !valid("another-key-of-the-second-day") {
		t.Error("the replica with the old file has given its key again")
	}
	write(t, early.config.APIKeyFile, "")
	if err := early.given.apply(t.Context()); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("an empty file: %v", err)
	}
	if !valid("another-key-of-the-second-day") {
		t.Error("an empty file has ended the key")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
