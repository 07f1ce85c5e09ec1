package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
)

// maxStateFile bounds what is read back from the state directory at once.
const maxStateFile = 1 << 20

// writeDurable replaces the file at path: it holds the old or the new content
// at any moment, and the new one once this returned, through a power cut, too.
func writeDurable(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails after the rename, as it should
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// saveJSON writes v durably. Errors are Internal and name the file.
func saveJSON(path string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = writeDurable(path, append(content, '\n'))
	}
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "%s cannot be written", path)
	}
	return nil
}

// loadJSON reads what saveJSON wrote. A file that is not there is NotFound.
func loadJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxStateFile {
		return certctl.Errorf(certctl.Invalid, "%s is larger than %d bytes", path, maxStateFile)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return certctl.Wrap(certctl.NotFound, err, "%s does not exist", path)
	case err != nil:
		return certctl.Wrap(certctl.Internal, err, "%s cannot be read", path)
	}
	if err := json.Unmarshal(content, v); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is damaged", path)
	}
	return nil
}
