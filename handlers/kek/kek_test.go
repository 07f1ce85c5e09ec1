package kek_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/kek"
)

func key(t testing.TB, name string, seed byte) *kek.Key {
	t.Helper()
	k, err := kek.New(name, bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValuesStayInTheirPlace(t *testing.T) {
	t.Parallel()
	k, id := key(t, kek.CA, 1), certctl.NewID(time.Now())
	place := kek.Place{Table: "authority", Row: id, Column: "sealed_key"}
	sealed, err := k.Seal(place, []byte("a private key"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(place, sealed); err != nil || string(plain) != "a private key" {
		t.Fatalf("%q, %v", plain, err)
	}
	if bytes.Contains(sealed, []byte("private")) {
		t.Error("the text is in the clear")
	}
	for name, open := range map[string]func() ([]byte, error){
		"another row": func() ([]byte, error) {
			return k.Open(kek.Place{"authority", certctl.NewID(time.Now()), "sealed_key"}, sealed)
		},
		"another column":  func() ([]byte, error) { return k.Open(kek.Place{"authority", id, "sealed"}, sealed) },
		"another table":   func() ([]byte, error) { return k.Open(kek.Place{"holder", id, "sealed_key"}, sealed) },
		"another key":     func() ([]byte, error) { return key(t, kek.CA, 2).Open(place, sealed) },
		"another purpose": func() ([]byte, error) { return key(t, kek.Secrets, 1).Open(place, sealed) },
	} {
		if _, err := open(); certctl.ErrorCode(err) != certctl.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := key(f, kek.CA, 1)
	place := kek.Place{Table: "t", Column: "c"}
	sealed, _ := k.Seal(place, []byte("text"))
	f.Add(sealed)
	f.Add(sealed[:20])
	f.Fuzz(func(t *testing.T, changed []byte) {
		plain, err := k.Open(place, changed)
		if err == nil && !bytes.Equal(changed, sealed) {
			t.Errorf("opened to %q", plain)
		}
	})
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "ca.key")
	if _, err := kek.Load(kek.CA, path, false); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a missing key: %v", err)
	}
	made, err := kek.Load(kek.CA, path, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := kek.Load(kek.CA, path, true)
	if err != nil || !bytes.Equal(made.ID(), again.ID()) {
		t.Errorf("the key is another one after a restart: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := kek.Load(kek.CA, path, false); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a key that others may read: %v", err)
	}
}
