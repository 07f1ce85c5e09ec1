package remote

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// depotNote is what the proxy keeps of one certificate of a depot. It has private
// keys, and is a file of this node's user alone.
type depotNote struct {
	ID string `json:"id,omitempty"`
	// Where is the store. What was kept of another, before the settings changed, counts
	// for nothing.
	Where string `json:"where,omitempty"`
	// Current is what was put there and proven; nil: nothing yet.
	Current *contents `json:"current,omitempty"`
	// Next is noted before it is put there, and is not proven. Before is the leaf that
	// it replaces; zero: there was none.
	Next   *contents      `json:"next,omitempty"`
	Before certctl.Digest `json:"before,omitzero"`
}

// previous is what can be put back; nil where what was there had come from elsewhere.
func (n *depotNote) previous() *contents {
	if n.Current == nil || n.Current.fingerprint() != n.Before {
		return nil
	}
	return n.Current
}

// settled forgets about what is next.
func (n *depotNote) settled() { n.Next, n.Before = nil, certctl.Digest{} }

const suffixNote = ".json"

func (t *depotTarget) noteFile(name string) string { return t.state + "-" + name + suffixNote }

// note is what is kept of this store.
func (t *depotTarget) note(name string) (*depotNote, error) {
	n, err := t.kept(name)
	if err == nil && n.Where != t.where {
		return &depotNote{}, nil
	}
	return n, err
}

// kept reads a note, of whatever store; what is not there is empty.
func (t *depotTarget) kept(name string) (*depotNote, error) {
	content, err := os.ReadFile(t.noteFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return &depotNote{}, nil
	}
	n := &depotNote{}
	if err == nil {
		err = json.Unmarshal(content, n)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "%s cannot be read", t.noteFile(name))
	}
	return n, nil
}

// keep writes a note, durably: what is put somewhere must be known before.
func (t *depotTarget) keep(name string, n *depotNote) error {
	n.Where = t.where
	encoded, err := json.Marshal(n)
	if err != nil {
		return err
	}
	path, disk := t.noteFile(name), target.LocalDisk()
	if err := disk.RemoveAll(path + ".new"); err != nil {
		return err
	}
	if err := disk.WriteFile(path+".new", encoded); err != nil {
		return err
	}
	return errors.Join(disk.Rename(path+".new", path), disk.Sync(filepath.Dir(path)))
}

// drop forgets a note, with its keys.
func (t *depotTarget) drop(name string) error {
	if err := os.Remove(t.noteFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return target.LocalDisk().Sync(filepath.Dir(t.state))
}

// noted are the names of all notes, in order.
func (t *depotTarget) noted() ([]string, error) {
	files, err := os.ReadDir(filepath.Dir(t.state))
	var names []string
	for _, file := range files {
		name, ours := strings.CutPrefix(file.Name(), filepath.Base(t.state)+"-")
		if name, note := strings.CutSuffix(name, suffixNote); ours && note {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}
