package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openJournal(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func commit(t *testing.T, j *Journal, changes ...Change) {
	t.Helper()
	if err := j.Commit(changes...); err != nil {
		t.Fatal(err)
	}
}

func contents(j *Journal) map[string]string {
	out := map[string]string{}
	for _, key := range j.Keys("") {
		var v string
		j.Get(key, &v)
		out[key] = v
	}
	return out
}

// A journal cut at any byte holds exactly the commits whose last byte was
// written, can be appended to, and is read back with what was appended.
func TestJournalCutAtEveryByte(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	states := []map[string]string{{}}
	ends := []int64{0}
	for i := range 5 {
		changes := []Change{{"a", fmt.Sprint("a", i)}, {fmt.Sprint("k", i), "x"}}
		if i == 3 {
			changes = append(changes, Change{"k1", nil})
		}
		commit(t, j, changes...)
		states, ends = append(states, contents(j)), append(ends, j.size)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for length := range len(whole) + 1 {
		cut := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(cut, whole[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		committed := 0
		for i, end := range ends {
			if int64(length) >= end {
				committed = i
			}
		}
		again := openJournal(t, cut)
		if diff := cmp.Diff(states[committed], contents(again)); diff != "" || again.Damaged() != 0 {
			t.Fatalf("cut at %d: %s, %d damaged", length, diff, again.Damaged())
		}
		commit(t, again, Change{"new", "after"})
		var after string
		if third := openJournal(t, cut); !third.Get("new", &after) || len(third.Keys("")) != len(states[committed])+1 {
			t.Fatalf("cut at %d: the next commit is lost", length)
		}
	}
}

// A damaged line costs that commit only, and is counted.
func TestJournalDamagedInTheMiddle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	commit(t, j, Change{"a", "1"})
	start := j.size
	commit(t, j, Change{"b", "2"})
	commit(t, j, Change{"c", "3"})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole[start+12] ^= 0x20
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openJournal(t, path)
	if diff := cmp.Diff(map[string]string{"a": "1", "c": "3"}, contents(again)); diff != "" || again.Damaged() != 1 {
		t.Errorf("%s, %d damaged", diff, again.Damaged())
	}
}

// Damaged lines at the end are cut off, and nothing of them shows up behind
// what is written next.
func TestJournalDamagedAtTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	commit(t, j, Change{"a", "1"})
	intact, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := append(bytes.Repeat([]byte("x"), 100), "\nyyy\n"...)
	if err := os.WriteFile(path, append(intact, damage...), 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, openJournal(t, path), Change{"b", "2"})
	commit(t, openJournal(t, path), Change{"c", "3"})
	again := openJournal(t, path)
	if info, err := os.Stat(path); err != nil || info.Size() != again.size {
		t.Errorf("%d bytes of the file are the journal's, %v, %v", again.size, info, err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2", "c": "3"}, contents(again)); diff != "" || again.Damaged() != 0 {
		t.Errorf("%s, %d damaged", diff, again.Damaged())
	}
}

func TestJournalDropsHistory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	commit(t, j, Change{"keep", "me"})
	big := string(bytes.Repeat([]byte("x"), 1<<20))
	for i := range 12 {
		commit(t, j, Change{"big", fmt.Sprint(i, big)})
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 6<<20 {
		t.Fatalf("the file has %d bytes, %v", info.Size(), err)
	}
	commit(t, j, Change{"big", "small"})
	again := openJournal(t, path)
	if diff := cmp.Diff(map[string]string{"keep": "me", "big": "small"}, contents(again)); diff != "" {
		t.Error(diff)
	}
}

// After a failed append nothing is accepted: a line after a torn one would be lost.
func TestJournalStopsAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	j := openJournal(t, filepath.Join(t.TempDir(), "journal"))
	commit(t, j, Change{"a", "1"})
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := j.Commit(Change{"b", "2"}); err == nil {
			t.Fatal("accepted")
		}
	}
	if diff := cmp.Diff(map[string]string{"a": "1"}, contents(j)); diff != "" {
		t.Error(diff)
	}
}

func FuzzJournal(f *testing.F) {
	line, err := encodeLine([]Change{{"a", "1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("00000000 []\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, path)
		commit(t, j, Change{"new", "x"})
		var v string
		if again := openJournal(t, path); !again.Get("new", &v) || v != "x" {
			t.Error("a commit after whatever was there is lost")
		}
	})
}
