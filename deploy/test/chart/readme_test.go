package chart

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What stands between these two in the chart's README is made from its values.
const (
	beginValues = "<!-- from values.yaml: CERTCTL_TEST_UPDATE=1 go test -run Readme ./deploy/test/chart -->\n"
	endValues   = "<!-- end -->\n"
)

// The README lists every value, as values.yaml explains it.
func TestReadmeListsEveryValue(t *testing.T) {
	t.Parallel()
	const folder = "../../../deploy/helm/certctl/"
	values, err := os.ReadFile(folder + "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(folder + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(readme), beginValues)
	listed, after, ends := strings.Cut(rest, endValues)
	if !begins || !ends {
		t.Fatalf("the README has no place for the values, between %sand %s", beginValues, endValues)
	}
	table, err := tableOf(values)
	if err != nil {
		t.Fatal(err)
	}
	if rows := strings.Count(table, "\n"); rows < 150 {
		t.Errorf("only %d rows", rows)
	}
	if table == listed {
		return
	}
	if os.Getenv("CERTCTL_TEST_UPDATE") == "" {
		t.Fatal("the README does not list what values.yaml has: CERTCTL_TEST_UPDATE=1 makes it so")
	}
	if err := os.WriteFile(folder+"README.md", []byte(before+beginValues+table+endValues+after), 0o644); err != nil { //nolint:gosec // as it was
		t.Fatal(err)
	}
}

// tableOf is a table of values: key, default, and the comment that goes with it.
func tableOf(values []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return "", err
	}
	var table strings.Builder
	table.WriteString("| Value | Default | Meaning |\n|---|---|---|\n")
	return table.String() + rows("", document.Content[0]), nil
}

func rows(prefix string, mapping *yaml.Node) string {
	var all strings.Builder
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path, said := prefix+key.Value, comment(key.HeadComment, key.LineComment, value.LineComment)
		if value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 {
			if said != "" {
				fmt.Fprintf(&all, "| `%s` | | %s |\n", path, said)
			}
			all.WriteString(rows(path+".", value))
			continue
		}
		value.HeadComment, value.LineComment, value.FootComment = "", "", ""
		text, _ := yaml.Marshal(value) // it came from YAML
		fmt.Fprintf(&all, "| `%s` | `%s` | %s |\n", path, strings.TrimSpace(string(text)), said)
	}
	return all.String()
}

// comment is what comments say, in one line that Markdown leaves as it is.
func comment(comments ...string) string {
	var words []string
	for _, text := range comments {
		for line := range strings.Lines(text) {
			words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
		}
	}
	return strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`).Replace(strings.Join(words, " "))
}
