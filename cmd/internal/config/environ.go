package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// variables returns the CERTCTL_* variables of an environment.
func variables(environ []string) map[string]string {
	found := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, Prefix) {
			found[name] = value
		}
	}
	return found
}

// unknownVariables returns a sentence for each variable that no flag reads.
func unknownVariables(environ map[string]string, flags map[string]*kong.Flag, also []string) []string {
	known := slices.Clone(also)
	for name, flag := range flags {
		if commandLineOnly(flag) {
			continue
		}
		known = append(known, variable(name))
		if flag.Tag.Has("secret") {
			known = append(known, variable(name)+"_FILE")
		}
	}
	slices.Sort(known)
	var warnings []string
	for name := range environ {
		if slices.Contains(known, name) {
			continue
		}
		warning := fmt.Sprintf("the environment variable %s is not known and has no effect", name)
		if near := nearest(name, known); near != "" {
			warning += "; did you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}

// nearest returns the candidate with the fewest edits to word, "" when even
// that one differs in more than a third of the word.
func nearest(word string, candidates []string) string {
	best, distance := "", len(word)/3+1
	for _, candidate := range candidates {
		if d := edits(word, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
