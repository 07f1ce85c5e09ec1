package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// Keys are erased when neither an open order nor one of the two generations of
// a binding needs them, and not before.
func TestTidyErasesWhatNothingNeeds(t *testing.T) {
	t.Parallel()
	n := idle(t)
	a := n.running
	now := time.Now()
	put := func() certctl.Digest {
		key, err := certctl.ECDSAP256.Generate()
		if err != nil {
			t.Fatal(err)
		}
		spki, err := a.store.Put(key)
		if err != nil {
			t.Fatal(err)
		}
		return spki
	}
	kept := map[string]certctl.Digest{
		"open order": put(), "current": put(), "previous": put(), "current, expired": put(), "pending": put(),
	}
	gone := map[string]certctl.Digest{
		"nobody's": put(), "old order": put(), "claimed order": put(), "previous, expired": put(), "forgotten": put(),
	}
	ended := now.Add(-8 * certctl.Day)
	commit(t, a.journal,
		Change{orderKey(certctl.ID{1}), orderRecord{SPKI: kept["open order"], Asked: now.Add(-50 * certctl.Day)}},
		Change{orderKey(certctl.ID{2}), orderRecord{SPKI: gone["old order"], Asked: now.Add(-101 * certctl.Day)}},
		Change{orderKey(certctl.ID{3}), orderRecord{SPKI: gone["claimed order"], Asked: now, Claimed: true}},
		Change{bindingKey(certctl.ID{4}), bindingRecord{At: now, Pending: kept["pending"], Keys: []keyUse{
			{SPKI: kept["current"], NotAfter: now.Add(certctl.Day)}, {SPKI: kept["previous"], NotAfter: now.Add(-6 * certctl.Day)},
		}}},
		Change{bindingKey(certctl.ID{5}), bindingRecord{At: now, Keys: []keyUse{
			{SPKI: kept["current, expired"], NotAfter: ended}, {SPKI: gone["previous, expired"], NotAfter: ended},
		}}},
		Change{bindingKey(certctl.ID{6}), bindingRecord{At: now, Forgotten: true, Keys: []keyUse{{SPKI: gone["forgotten"], NotAfter: now}}}},
		Change{bindingKey(certctl.ID{7}), bindingRecord{At: now.Add(-401 * certctl.Day), Forgotten: true}},
	)
	unfinished := filepath.Join(n.dir, "keys", ".abc.pem.123") // of a write that was cut off
	if err := os.WriteFile(unfinished, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.tidy()
	for name, spki := range kept {
		if _, err := a.store.Get(spki); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spki := range gone {
		if _, err := a.store.Get(spki); certctl.ErrorCode(err) != certctl.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(unfinished); !os.IsNotExist(err) {
		t.Errorf("what was left of a write: %v", err)
	}
	if a.journal.Get(orderKey(certctl.ID{2}), new(orderRecord)) || a.journal.Get(bindingKey(certctl.ID{7}), new(bindingRecord)) {
		t.Error("old records are kept")
	}
}

func TestKeysOfTwoGenerationsAreKept(t *testing.T) {
	t.Parallel()
	var keys []keyUse
	install := func(name string) {
		keys = usedKeys(keys, &certctl.InstallCommand{SPKI: certctl.DigestOf([]byte(name))})
	}
	for _, name := range []string{"a", "b", "b", "c"} {
		install(name)
	}
	if len(keys) != 2 || keys[0].SPKI != certctl.DigestOf([]byte("c")) || keys[1].SPKI != certctl.DigestOf([]byte("b")) {
		t.Errorf("got %v", keys)
	}
}

func TestKeyStoreProvesWhatItGives(t *testing.T) {
	t.Parallel()
	store, err := openKeyStore(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.ECDSAP384, certctl.RSA2048, certctl.Ed25519} {
		key, err := algorithm.Generate()
		if err != nil {
			t.Fatal(err)
		}
		spki, err := store.Put(key)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(store.path(spki))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", algorithm, info, err)
		}
		if got, err := store.Get(spki); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		} else if again, err := certctl.SPKIHash(got.Public()); err != nil || again != spki {
			t.Errorf("%s: another key, %v", algorithm, err)
		}
		wrong := certctl.DigestOf([]byte(algorithm))
		if err := os.Rename(store.path(spki), store.path(wrong)); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Get(wrong); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: a key under another's name: %v", algorithm, err)
		}
	}
}
