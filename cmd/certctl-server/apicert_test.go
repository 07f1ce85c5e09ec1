package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestCertificateOfTheAPIIsReadAgain(t *testing.T) {
	t.Parallel()
	dir, next := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, next} {
		if err := setupTLS(d, []string{"api"}); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	files := &fileCertificate{
		cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), ca: filepath.Join(next, "tls.crt"),
		log: zerolog.Nop(), now: func() time.Time { return now },
	}
	first, err := files.get(nil)
	if err != nil || len(first.Certificate) != 2 {
		t.Fatalf("%v, %v", first, err)
	}
	for _, name := range []string{"tls.crt", "tls.key"} {
		text, err := os.ReadFile(filepath.Join(next, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	if same, err := files.get(nil); err != nil || same != first {
		t.Errorf("the files were read again at once: %v", err)
	}
	now = now.Add(fileEvery)
	second, err := files.get(nil)
	if err != nil || bytes.Equal(second.Certificate[0], first.Certificate[0]) {
		t.Errorf("the new certificate is not served: %v", err)
	}
	write(t, filepath.Join(dir, "tls.key"), "half")
	now = now.Add(fileEvery)
	if kept, err := files.get(nil); err != nil || kept != second {
		t.Errorf("half a key: %v", err)
	}
}
