package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// columns are the paths into an object that a table shows, as in
// "status.state"; "TITLE=path" names the column otherwise.
type columns []string

// show prints items as --output says.
func (s *session) show(items []any, table columns) error {
	switch s.globals.Output {
	case "json":
		return s.json(object{"items": items})
	case "yaml":
		return s.yaml(object{"items": items})
	}
	writer := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	titles := make([]string, len(table))
	for i, column := range table {
		titles[i], _ = table.split(column)
	}
	fmt.Fprintln(writer, strings.Join(titles, "\t"))
	for _, item := range items {
		cells := make([]string, len(table))
		for i, column := range table {
			_, path := table.split(column)
			cells[i] = cell(item, path)
		}
		fmt.Fprintln(writer, strings.Join(cells, "\t"))
	}
	return writer.Flush()
}

// showOne prints one object: as a table it is the same as YAML, which people
// can read.
func (s *session) showOne(item object) error {
	if s.globals.Output == "json" {
		return s.json(item)
	}
	return s.yaml(item)
}

func (s *session) json(v any) error {
	encoder := json.NewEncoder(s.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

func (s *session) yaml(v any) error {
	encoder := yaml.NewEncoder(s.out)
	encoder.SetIndent(2)
	if err := encoder.Encode(plain(v)); err != nil {
		return certctl.Wrap(certctl.Internal, err, "the answer cannot be written as YAML")
	}
	return encoder.Close()
}

// plain turns json.Numbers into numbers that YAML writes without quotes.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = plain(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = plain(value)
		}
		return out
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

func (columns) split(column string) (title, path string) {
	if title, path, found := strings.Cut(column, "="); found {
		return title, path
	}
	return strings.ToUpper(strings.ReplaceAll(column[strings.LastIndex(column, ".")+1:], "_", " ")), column
}

// cell renders what lies at a path: lists joined, times as time left or past.
func cell(item any, path string) string {
	if path == "" {
		return render(item)
	}
	switch at := item.(type) {
	case map[string]any:
		key, rest, _ := strings.Cut(path, ".")
		return cell(at[key], rest)
	case []any:
		parts := make([]string, len(at))
		for i, element := range at {
			parts[i] = cell(element, path)
		}
		return strings.Join(parts, ",")
	}
	return ""
}

func render(item any) string {
	switch v := item.(type) {
	case nil:
		return ""
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return relative(at, time.Now())
		}
		return v
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = render(element)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(item)
}

// relative is "in 59d" or "3m ago".
func relative(at, now time.Time) string {
	d := at.Sub(now)
	var text string
	switch away := d.Abs(); {
	case away >= 2*certctl.Day:
		text = fmt.Sprintf("%dd", int(away/certctl.Day))
	case away >= 2*time.Hour:
		text = fmt.Sprintf("%dh", int(away/time.Hour))
	case away >= 2*time.Minute:
		text = fmt.Sprintf("%dm", int(away/time.Minute))
	default:
		text = fmt.Sprintf("%ds", int(away/time.Second))
	}
	if d > 0 {
		return "in " + text
	}
	return text + " ago"
}

func trimLine(s string) string { return strings.TrimRight(s, "\r\n") }

func write(w io.Writer, content []byte) error {
	_, err := w.Write(content)
	return err
}
