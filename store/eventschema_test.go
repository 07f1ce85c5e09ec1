package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// asDeclared holds every event of the database against what is declared of it,
// which is what readers are told in api/asyncapi.yaml.
func (w *world) asDeclared() {
	w.t.Helper()
	rows, err := w.Pool().Query(w.ctx, `select body from event`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			w.t.Fatal(err)
		}
		var event certctl.Event
		if err := json.Unmarshal(body, &event); err != nil {
			w.t.Fatal(err)
		}
		for _, wrong := range undeclared(event) {
			w.t.Errorf("%s: %s (eventschema.go)", event.Name, wrong)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
}

// undeclared says what of an event nobody was told to expect.
func undeclared(event certctl.Event) (wrong []string) {
	if !slices.Contains(event.Name.About(), event.Aggregate) {
		wrong = append(wrong, "is about "+string(event.Aggregate))
	}
	var data map[string]any
	if err := json.Unmarshal(event.Data, &data); err != nil {
		return append(wrong, err.Error())
	}
	kinds := map[string]certctl.FieldKind{}
	for _, field := range event.Name.Fields() {
		kinds[field.Name] = field.Kind
	}
	for name, value := range data {
		if kind, ok := kinds[name]; !ok || !ofKind(value, kind) {
			text, _ := json.Marshal(value) // it came from JSON
			wrong = append(wrong, strings.TrimSpace("has "+name+" = "+string(text)+", declared "+string(kind)))
		}
	}
	return wrong
}

func ofKind(value any, kind certctl.FieldKind) bool {
	each := func(of certctl.FieldKind) bool {
		list, ok := value.([]any)
		return ok && !slices.ContainsFunc(list, func(one any) bool { return !ofKind(one, of) })
	}
	text, isText := value.(string)
	switch kind {
	case certctl.FieldID:
		_, err := certctl.ParseID(text)
		return isText && err == nil
	case certctl.FieldTime:
		_, err := time.Parse(time.RFC3339, text)
		return isText && err == nil
	case certctl.FieldText:
		return isText
	case certctl.FieldNumber:
		_, ok := value.(float64)
		return ok
	case certctl.FieldFlag:
		_, ok := value.(bool)
		return ok
	case certctl.FieldIDs:
		return each(certctl.FieldID)
	case certctl.FieldTexts:
		return each(certctl.FieldText)
	}
	return false
}
