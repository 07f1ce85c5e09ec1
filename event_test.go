package certctl_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// declaredValues are the values of all constants of a type of strings.
func declaredValues(t *testing.T, kind string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if declared, ok := spec.Type.(*ast.Ident); !ok || declared.Name != kind {
				return true
			}
			for _, value := range spec.Values {
				if text, ok := value.(*ast.BasicLit); ok {
					name, err := strconv.Unquote(text.Value)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, name)
				}
			}
			return true
		})
	}
	return names
}

// An event that is not in the table could neither be subscribed to nor be told.
func TestEveryEventIsInTheTable(t *testing.T) {
	t.Parallel()
	declared := declaredValues(t, "EventName")
	if len(declared) < 90 {
		t.Fatalf("only %d events were found", len(declared))
	}
	seen := map[certctl.EventName]int{}
	for _, event := range certctl.EventTypes {
		seen[event.Name]++
		if event.Title == "" || strings.HasSuffix(event.Title, ".") {
			t.Errorf("%s: the title %q is missing, or a sentence", event.Name, event.Title)
		}
		if !slices.Contains(declared, string(event.Name)) {
			t.Errorf("%s is in the table and nowhere else", event.Name)
		}
	}
	for _, name := range declared {
		if seen[certctl.EventName(name)] != 1 {
			t.Errorf("%s is %d times in the table", name, seen[certctl.EventName(name)])
		}
	}
}

// docs/events.md names every event with its severity and what it begins and ends.
func TestEventsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range certctl.EventTypes {
		if row := eventRow(event); !strings.Contains(string(text), row) {
			t.Errorf("docs/events.md has no line\n%s", row)
		}
	}
}

// eventRow is the line of an event in docs/events.md.
func eventRow(event certctl.EventType) string {
	e := certctl.Event{Name: event.Name, Outcome: certctl.OutcomeFailure, Time: time.Unix(0, 0)}
	e.Data = json.RawMessage(`{"holder_kind": "client", "not_after": "1970-01-20T00:00:00Z"}`)
	severity, about := e.Severity().String(), ""
	switch event.Name {
	case certctl.EventCertificateExpiring:
		severity = "warning; error in the last week; critical on the last day"
	case certctl.EventRecordExpiring:
		severity = "warning; error in the last week"
	case certctl.EventOrderDelayed:
		severity = "warning; info where it waits as it should"
	}
	for _, trouble := range e.Troubles() {
		key, _, _ := strings.Cut(trouble.Key, "/")
		switch {
		case !trouble.Ends:
			about = "begins " + key
		case key == "":
			about = "ends all of the object"
		case about == "":
			about = "ends " + key
		default:
			about += ", " + key
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", event.Name, event.Title, severity, about)
}

func TestSeverityOfAnExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]certctl.Severity{
		30 * certctl.Day: certctl.SeverityWarning, 7*certctl.Day + time.Second: certctl.SeverityWarning, 7 * certctl.Day: certctl.SeverityError,
		certctl.Day: certctl.SeverityCritical, -time.Hour: certctl.SeverityCritical,
	} {
		data, err := json.Marshal(map[string]any{"not_after": now.Add(left)})
		if err != nil {
			t.Fatal(err)
		}
		e := certctl.Event{Name: certctl.EventCertificateExpiring, Time: now, Data: data}
		if got := e.Severity(); got != want {
			t.Errorf("%s before its end: %s, want %s", left, got, want)
		}
	}
	if got := (certctl.Event{Name: certctl.EventCertificateExpiring, Data: json.RawMessage(`{}`)}).Severity(); got != certctl.SeverityError {
		t.Errorf("an end that nobody knows: %s", got)
	}
	for _, s := range []certctl.Severity{certctl.SeverityInfo, certctl.SeverityWarning, certctl.SeverityError, certctl.SeverityCritical} {
		if got, err := certctl.ParseSeverity(s.String()); err != nil || got != s {
			t.Errorf("%d is %q and back %d, %v", s, s, got, err)
		}
	}
	if _, err := certctl.ParseSeverity("fatal"); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("fatal: %v", err)
	}
}

// The trouble of one target is not ended by another one's success.
func TestTroublesOfTargetsAreTheirOwn(t *testing.T) {
	t.Parallel()
	key := func(name certctl.EventName, target string) string {
		return (certctl.Event{Name: name, Outcome: certctl.OutcomeFailure, Data: json.RawMessage(`{"target": "` + target + `"}`)}).Troubles()[0].Key
	}
	const one, two = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"
	if key(certctl.EventDeploymentFailed, one) != key(certctl.EventDeploymentVerified, one) {
		t.Error("a target's success does not end its failure")
	}
	if key(certctl.EventDeploymentFailed, one) == key(certctl.EventDeploymentVerified, two) {
		t.Error("another target's success ends a failure")
	}
	waits := certctl.Event{Name: certctl.EventOrderDelayed, Outcome: certctl.OutcomeSuccess, Data: json.RawMessage(`{}`)}
	if len(waits.Troubles()) != 0 || waits.Severity() != certctl.SeverityInfo {
		t.Error("an order that waits for its window is a trouble")
	}
}

// Readers are told what an event is about and what its data may hold.
func TestEveryEventHasASchema(t *testing.T) {
	t.Parallel()
	kinds := []certctl.FieldKind{
		certctl.FieldID, certctl.FieldIDs, certctl.FieldTime, certctl.FieldNumber, certctl.FieldFlag, certctl.FieldText, certctl.FieldTexts,
	}
	for _, event := range certctl.EventTypes {
		if len(event.Name.About()) == 0 || len(event.Name.Fields()) == 0 {
			t.Errorf("%s has no schema", event.Name)
		}
		for _, field := range event.Name.Fields() {
			if !slices.Contains(kinds, field.Kind) {
				t.Errorf("%s: the field %s is of the kind %q", event.Name, field.Name, field.Kind)
			}
		}
	}
}
