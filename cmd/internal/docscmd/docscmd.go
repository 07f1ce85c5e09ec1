// Package docscmd finds the commands that documents tell people to type, so that
// tests of each program hold them against what the program takes.
package docscmd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
)

// Command is one that a document has within a block of code.
type Command struct {
	Place string // file and line
	Args  []string
}

// Of returns the commands of a program in all documents below a folder: in
// Markdown, lines within fences that begin with its name. Lines that end with a
// backslash go on in the next.
func Of(root, program string) (all []Command, err error) {
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != root, entry.IsDir() && entry.Name() == "node_modules":
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, err := commands(path, string(text), program)
		all = append(all, found...)
		return err
	})
	return all, err
}

func commands(path, text, program string) (all []Command, err error) {
	fenced, pending := false, ""
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced, pending = !fenced, ""
			continue
		}
		if !fenced {
			continue
		}
		line = pending + strings.TrimSpace(line)
		pending = ""
		if head, more := strings.CutSuffix(line, `\`); more {
			pending = head
			continue
		}
		words, err := words(line)
		if err != nil {
			return nil, certctl.Errorf(certctl.Invalid, "%s:%d: %s", path, n+1, certctl.ErrorMessage(err))
		}
		for len(words) > 0 && strings.Contains(words[0], "=") { // variables of the environment
			words = words[1:]
		}
		if len(words) > 1 && words[0] == program {
			all = append(all, Command{Place: path + ":" + strings.TrimSpace(line), Args: words[1:]})
		}
	}
	return all, nil
}

// words splits a line as a shell would, up to a comment, a pipe, a redirection or
// the next command.
func words(line string) (all []string, err error) {
	var word strings.Builder
	quote, in := rune(0), false
	end := func() {
		if in {
			all, in = append(all, word.String()), false
			word.Reset()
		}
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !in, r == '|' && !in, r == '>', r == '<' && !in, r == ';', r == '&':
			end()
			return all, nil
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 {
		return nil, nil // not a command: a quotation mark in prose or JSON
	}
	end()
	return all, nil
}
