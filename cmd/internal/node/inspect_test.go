package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// One certificate that cannot be taken over keeps seed from no other one, and is said
// in the end.
func TestSeedGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pem, key, proposal := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key"), filepath.Join(dir, "proposal.yaml")
	targettest.WritePair(t, pem, key, "shop.example.com")
	live := filepath.Join(dir, "data", "live")
	text := strings.NewReplacer("LIVE", live, "PEM", pem, "KEY", key).Replace(`
targets:
  - {name: one, kind: files, settings: {directory: LIVE/1}, places: [{place: gone, slot: default, certificate: PEM.gone, key: KEY}, {place: a, slot: default, certificate: PEM, key: KEY}]}
  - {name: two, kind: files, settings: {directory: LIVE/2}, places: [{place: b, slot: default, certificate: PEM, key: KEY}]}
`)
	if err := os.WriteFile(proposal, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{DataDir: filepath.Join(dir, "data"), Seed: seedCommand{File: proposal}}
	c.program.Kinds = target.Kinds()
	err := seed(c)
	if err == nil || !strings.Contains(err.Error(), "one gone: "+pem+".gone cannot be taken over") {
		t.Errorf("error %v", err)
	}
	for _, made := range []string{"1/a", "2/b"} {
		if _, err := os.Stat(filepath.Join(live, made, "current", "privkey.pem")); err != nil {
			t.Error(err)
		}
	}
}
