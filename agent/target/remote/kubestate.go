package remote

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

// change is what is noted before a Secret is written, until what it holds is
// proven: how it was, so that it can be put back, also by the next process. It has
// the previous key, and is a file of this node's user alone.
type change struct {
	Previous *kube.Secret   `json:"previous,omitempty"` // nil: there was none
	Next     certctl.Digest `json:"next"`               // of the new leaf
}

const suffixChange = ".json"

// changeFile is where a Secret's change is noted.
func (s *secrets) changeFile(name string) string { return s.state + "-" + name + suffixChange }

// begin notes a change.
func (s *secrets) begin(name string, c change) error {
	encoded, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path, disk := s.changeFile(name), target.LocalDisk()
	if err := disk.RemoveAll(path + ".new"); err != nil {
		return err
	}
	if err := disk.WriteFile(path+".new", encoded); err != nil {
		return err
	}
	return errors.Join(disk.Rename(path+".new", path), disk.Sync(filepath.Dir(path)))
}

// unproven returns a change that was not proven; nil for none.
func (s *secrets) unproven(name string) (*change, error) {
	content, err := os.ReadFile(s.changeFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c change
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "%s cannot be read", s.changeFile(name))
	}
	return &c, nil
}

// proven ends a change.
func (s *secrets) proven(name string) error {
	if err := os.Remove(s.changeFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return target.LocalDisk().Sync(filepath.Dir(s.state))
}

// changed names the Secrets whose change is not proven.
func (s *secrets) changed() ([]string, error) {
	files, err := filepath.Glob(s.state + "-*" + suffixChange)
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(file, s.state+"-"), suffixChange))
	}
	return names, err
}
