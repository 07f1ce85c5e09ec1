package certctl

import (
	"slices"
	"strings"
	"time"
)

// Reader may fetch events from the bus until it expires or is revoked. It reads
// through a consumer that the platform has made for it and can neither publish
// nor see anything else.
type Reader struct {
	ID        ID
	Team      string
	Name      string
	Owner     string
	Filters   []string // certificate, or certificate.certificate_issued; empty: all
	ExpiresAt time.Time
	RevokedAt time.Time
	CreatedAt time.Time
}

// ReaderFilters is what a reader may fetch, in the shortest form: kinds of
// objects, and of other kinds single events. Each kind may end in ".>" or ".*",
// as subjects on the bus do. A filter that another one covers is dropped, since
// the bus refuses those.
func ReaderFilters(filters []string) ([]string, error) {
	var bad FieldErrors
	var kinds, events []string
	for _, filter := range filters {
		kind, event, _ := strings.Cut(filter, ".")
		switch {
		case !slices.Contains(Aggregates, Aggregate(kind)):
			bad.Add("/subjects", "%q begins with none of the kinds of objects that events are about: %s", Clip(filter, 40), joined(Aggregates))
		case event == "" || event == ">" || event == "*":
			kinds = append(kinds, kind)
		case !slices.ContainsFunc(EventTypes, func(t EventType) bool { return string(t.Name) == event }):
			bad.Add("/subjects", "%q names no event: docs/events.md lists them", Clip(filter, 100))
		default:
			events = append(events, filter)
		}
	}
	events = slices.DeleteFunc(events, func(filter string) bool {
		kind, _, _ := strings.Cut(filter, ".")
		return slices.Contains(kinds, kind)
	})
	all := slices.Concat(kinds, events)
	slices.Sort(all)
	return slices.Compact(all), bad.Err()
}

func joined[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = string(value)
	}
	return strings.Join(texts, ", ")
}
