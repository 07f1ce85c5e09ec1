package movein

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/certctl/certctl"
)

const (
	// maxFile bounds a file: chains have some 10 KB.
	maxFile = 1 << 20

	// maxEntries bounds a folder.
	maxEntries = 20_000
)

// tree is a folder that nothing leads out of. os.Root follows links within it, as
// certbot's from live to archive are, and refuses those that leave it.
type tree struct{ root *os.Root }

// read returns a regular file's content.
func (t *tree) read(name string) ([]byte, error) {
	// A pipe would block for ever when it is opened.
	file, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, certctl.Errorf(certctl.Invalid, "%s is not a regular file", name)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if len(content) > maxFile {
		return nil, certctl.Errorf(certctl.Invalid, "%s has more than %d bytes", name, maxFile)
	}
	return content, nil
}

// text is read for files that may be missing.
func (t *tree) text(name string) string {
	content, _ := t.read(name)
	return string(content)
}

func (t *tree) has(name string) bool {
	_, err := t.root.Stat(name)
	return err == nil
}

// files are the names of the files in a folder that have an ending.
func (t *tree) files(dir, ending string) []string {
	return t.names(dir, func(e fs.DirEntry) bool { return !e.IsDir() && strings.HasSuffix(e.Name(), ending) })
}

// names are those entries of a folder that are wanted; none where it is missing.
func (t *tree) names(dir string, wanted func(fs.DirEntry) bool) []string {
	folder, err := t.root.Open(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = folder.Close() }()
	entries, err := folder.ReadDir(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	var out []string
	for _, e := range entries {
		if wanted(e) {
			out = append(out, e.Name())
		}
	}
	return out
}

// below are the folders below one, to a depth, that hold a file.
func (t *tree) below(dir, file string, depth int) []string {
	var out []string
	if t.has(path.Join(dir, file)) {
		out = append(out, dir)
	}
	if depth == 0 {
		return out
	}
	for _, name := range t.folders(dir) {
		out = append(out, t.below(path.Join(dir, name), file, depth-1)...)
	}
	return out
}

// unreadable says why without the content, and where a link leads out of the tree.
func unreadable(name string, err error) error {
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		err = wrong.Err
	}
	return certctl.Wrap(certctl.Invalid, err, "%s cannot be read: %v", name, err)
}
