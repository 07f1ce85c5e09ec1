package discover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// replacement is an edit with what is to be there.
type replacement struct {
	Edit
	text string
}

// patch is a unified diff of the replacements, with a line before and after each.
func patch(all []replacement) (string, error) {
	files := map[string]map[int][]replacement{}
	var names []string
	for _, r := range all {
		file := realPath(r.File)
		if files[file] == nil {
			files[file] = map[int][]replacement{}
			names = append(names, file)
		}
		files[file][r.Line] = append(files[file][r.Line], r)
	}
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		lines, err := readLines(name)
		if err != nil {
			return "", err
		}
		if err := patchFile(&out, name, lines, files[name]); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// patchFile writes the hunks of one file: lines that follow one another are one.
func patchFile(out *strings.Builder, name string, lines []string, edits map[int][]replacement) error {
	path := strings.TrimPrefix(name, "/")
	fmt.Fprintf(out, "--- %s\n+++ %s\n", path, path)
	var numbers []int
	for n := range edits {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for len(numbers) > 0 {
		run := 1
		for run < len(numbers) && numbers[run]-numbers[run-1] <= 2 { // their context would overlap
			run++
		}
		first, last := max(numbers[0]-1, 1), min(numbers[run-1]+1, len(lines))
		if last == len(lines) && lines[last-1] == "" && last > numbers[run-1] {
			last-- // what is after the end of the file
		}
		count := last - first + 1
		fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", first, count, first, count)
		if err := hunk(out, name, lines, first, last, edits); err != nil {
			return err
		}
		numbers = numbers[run:]
	}
	return nil
}

// hunk writes lines of a file, those that change first as they are, then as they
// are to be.
func hunk(out *strings.Builder, name string, lines []string, first, last int, edits map[int][]replacement) error {
	for n := first; n <= last; {
		if edits[n] == nil {
			fmt.Fprintf(out, " %s\n", lines[n-1])
			n++
			continue
		}
		var after []string
		for ; n <= last && edits[n] != nil; n++ {
			changed, err := edited(lines[n-1], edits[n])
			if err != nil {
				return certctl.Wrap(certctl.Internal, err, "%s cannot be changed", place(name, n))
			}
			fmt.Fprintf(out, "-%s\n", lines[n-1])
			after = append(after, changed)
		}
		for _, line := range after {
			fmt.Fprintf(out, "+%s\n", line)
		}
	}
	return nil
}

// edited is a line as it is to be. Longer words go first, since one may begin
// another.
func edited(line string, edits []replacement) (string, error) {
	slices.SortFunc(edits, func(a, b replacement) int { return cmp.Compare(len(b.Old), len(a.Old)) })
	for _, e := range edits {
		switch {
		case e.Drop:
			line = "# " + line
		case !strings.Contains(line, e.Old):
			return "", certctl.Errorf(certctl.Conflict, "%q is not there as it is written", e.Old)
		default:
			line = strings.Replace(line, e.Old, e.text, 1)
		}
	}
	return line, nil
}
