package certctl_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxFileLines is how long a hand-written source file may be. One concept has
// room in it; two want two files. The length of functions is golangci-lint's.
const maxFileLines = 400

// longFiles are the exceptions, each with its reason.
var longFiles = map[string]string{}

var generatedFile = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	unused := make(map[string]string, len(longFiles))
	for file, reason := range longFiles {
		unused[file] = reason
	}
	walk(t, ".go", func(file string, content []byte) {
		if strings.HasSuffix(file, "_test.go") || generatedFile.Match(content) {
			return
		}
		lines := bytes.Count(content, []byte("\n"))
		if lines <= maxFileLines {
			return
		}
		if _, ok := longFiles[file]; !ok {
			t.Errorf("%s has %d lines, more than %d: give a part of it its own file", file, lines, maxFileLines)
		}
		delete(unused, file)
	})
	for file := range unused {
		t.Errorf("%s is no longer an exception: take it off the list", file)
	}
}

// walk calls check with each file of the repository that has the ending. Hidden
// folders and those that tasks write are left out.
func walk(t *testing.T, ending string, check func(file string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); file != "." && (strings.HasPrefix(name, ".") || name == "bin" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ending) {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		check(filepath.ToSlash(file), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
