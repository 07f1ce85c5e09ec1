package backup

import (
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

// format is the version of the file's layout.
const format = 1

// Manifest says what a backup holds. It has no secrets.
type Manifest struct {
	Format       int            `json:"format"`
	Installation certctl.ID     `json:"installation"`
	Release      string         `json:"release"` // of the program that took it
	Schema       int64          `json:"schema"`
	PostgreSQL   int            `json:"postgresql"` // major version of the server
	TakenAt      time.Time      `json:"taken_at"`   // by the database's clock
	LastEvent    certctl.ID     `json:"last_event"` // the newest that it holds
	DumpSize     int64          `json:"dump_size"`
	DumpSHA256   certctl.Digest `json:"dump_sha256"`
	KeyChecks    []KeyCheck     `json:"key_checks"`
}

// KeyCheck is what a key-encryption key must be able to open, so that a restore
// without the right ones is refused before it does anything.
type KeyCheck struct {
	ID      certctl.ID `json:"id"`
	Purpose string     `json:"purpose"` // certctl.KeyPurposeCheck, "-" and the key's name
	Sealed  []byte     `json:"sealed"`
}

// readManifest reads and checks a manifest.
func readManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return m, certctl.Wrap(certctl.Invalid, err, "the backup's manifest cannot be read")
	}
	switch {
	case m.Format != format:
		return m, certctl.Errorf(certctl.Invalid, "the backup has format %d, this program knows %d", m.Format, format).
			WithRemedy("restore it with certctl-server %s", m.Release)
	case m.Installation.IsZero() || m.Schema <= 0 || m.TakenAt.IsZero():
		return m, certctl.Errorf(certctl.Invalid, "the backup's manifest is incomplete")
	}
	return m, nil
}
