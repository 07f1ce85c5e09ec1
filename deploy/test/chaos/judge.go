package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// settleTimeout is how long all that was accepted may take after the last fault.
const settleTimeout = 4 * time.Minute

// judge waits until everything is done, and notes in the report what is not as
// it was promised.
func (s *stand) judge(ctx context.Context) error {
	accepted := s.load.known()
	s.report.Submissions, s.report.Retries = len(accepted), s.load.retries
	s.report.Problems = append(s.report.Problems, s.load.refused...)
	open, err := s.settle(ctx, accepted)
	if err != nil {
		return err
	}
	for name, state := range open {
		s.report.Lost++
		s.problem("%s was accepted and is %s", name, state)
	}
	newest, err := s.countVersions(ctx, accepted)
	if err != nil {
		return err
	}
	s.compareNodes(accepted, newest)
	if err := errors.Join(s.compareEvents(ctx), s.drained(ctx), s.countLetters(ctx)); err != nil {
		return err
	}
	if output, err := s.check(ctx); err != nil {
		s.problem("certctl-server check: %s", output)
	}
	return nil
}

// maxProblems is how many are listed; one cause has many effects.
const maxProblems = 20

func (s *stand) problem(format string, args ...any) {
	if len(s.report.Problems) < maxProblems {
		s.report.Problems = append(s.report.Problems, fmt.Sprintf(format, args...))
	}
}

// settle returns what is not active in time, by name, with its state.
func (s *stand) settle(ctx context.Context, accepted map[string]submitted) (map[string]string, error) {
	deadline := time.Now().Add(settleTimeout)
	for {
		open := make(map[string]string, len(accepted))
		for name := range accepted {
			open[name] = "unknown"
		}
		err := pages(ctx, s.API, "/api/v1/certificates", url.Values{}, func(c struct {
			Name   string `json:"name"`
			Status struct {
				State  string `json:"state"`
				Reason string `json:"reason"`
			} `json:"status"`
		}) {
			switch _, ours := open[c.Name]; {
			case !ours:
			case c.Status.State == "active":
				delete(open, c.Name)
			default:
				open[c.Name] = c.Status.State + " (" + c.Status.Reason + ")"
			}
		})
		if err == nil && len(open) == 0 || time.Now().After(deadline) {
			return open, err
		}
		s.pass(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return open, ctx.Err()
		}
	}
}

// version is what the judge reads of one.
type version struct {
	Certificate string    `json:"certificate"`
	Holder      string    `json:"holder"`
	Fingerprint string    `json:"fingerprint_sha256"`
	Origin      string    `json:"origin"`
	CreatedAt   time.Time `json:"created_at"`
}

// countVersions notes keys that were certified twice in a cycle, and returns the
// newest fingerprint of each name.
func (s *stand) countVersions(ctx context.Context, accepted map[string]submitted) (map[string]string, error) {
	names := map[string]string{}
	if err := pages(ctx, s.API, "/api/v1/certificates", url.Values{}, func(c struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}) {
		names[c.ID] = c.Name
	}); err != nil {
		return nil, err
	}
	count, newest := map[string]int{}, map[string]version{}
	if err := pages(ctx, s.API, "/api/v1/versions", url.Values{}, func(v version) {
		name := names[v.Certificate]
		if _, ours := accepted[name]; !ours {
			return
		}
		if v.Origin == "orphan" {
			s.report.Orphans++
			return
		}
		count[name+"/"+v.Holder]++
		if v.CreatedAt.After(newest[name].CreatedAt) {
			newest[name] = v
		}
	}); err != nil {
		return nil, err
	}
	for key, n := range count {
		name, _, _ := strings.Cut(key, "/")
		if expected := s.load.expected(name); n > expected {
			s.report.Twice++
			s.problem("%s has %d leaves where %d were asked for", key, n, expected)
		}
	}
	prints := make(map[string]string, len(newest))
	for name, v := range newest {
		prints[name] = v.Fingerprint
	}
	return prints, nil
}

// compareNodes holds the files on the nodes against what the API says.
func (s *stand) compareNodes(accepted map[string]submitted, newest map[string]string) {
	for name, what := range accepted {
		if what.folder == "" {
			continue
		}
		path := filepath.Join(what.folder, "current", "fullchain.pem")
		text, err := os.ReadFile(path)
		if err != nil {
			s.problem("%s is not on its node: %v", name, err)
			continue
		}
		block, _ := pem.Decode(text)
		if block == nil {
			s.problem("%s holds no certificate", path)
			continue
		}
		sum := sha256.Sum256(block.Bytes)
		if got := hex.EncodeToString(sum[:]); got != newest[name] {
			s.problem("%s: its node has %s, the API says %s", name, got, newest[name])
		}
	}
}

// compareEvents holds what the reader has seen against the log.
func (s *stand) compareEvents(ctx context.Context) error {
	all, err := s.eventsAfter(ctx, s.events.first)
	if err != nil {
		return err
	}
	s.report.Events = len(all)
	var missing []string
	deadline := time.Now().Add(time.Minute)
	for missing = s.events.missing(all); len(missing) > 0 && time.Now().Before(deadline) && ctx.Err() == nil; missing = s.events.missing(all) {
		s.pass(ctx, 100*time.Millisecond)
	}
	if len(missing) > 0 {
		s.report.EventsMissed = len(missing)
		s.problem("a reader missed %d of %d events, %s among them", len(missing), len(all), missing[0])
	}
	return nil
}

// drained waits until every event has been published.
func (s *stand) drained(ctx context.Context) error {
	const metric = "certctl_event_out_oldest_age_seconds"
	var text []byte
	var err error
	if s.await(ctx, time.Minute, func() bool {
		err = s.API.Call(ctx, http.MethodGet, "/metrics", nil, &text)
		return err == nil && bytes.Contains(text, []byte("\n"+metric+" 0\n"))
	}) || err != nil {
		return err
	}
	s.problem("events wait to be published a minute after the end: %s is not 0", metric)
	return ctx.Err()
}

// countLetters holds the dead letters against what the scenario has made of
// them: no hint that anybody gave in earnest is one.
func (s *stand) countLetters(ctx context.Context) error {
	found := 0
	var last string
	var err error
	s.await(ctx, time.Minute, func() bool {
		found = 0
		err = pages(ctx, s.API, "/api/v1/dead-letters", url.Values{}, func(letter struct {
			Verb   string `json:"verb"`
			Reason string `json:"reason"`
		}) {
			found++
			last = letter.Verb + ": " + letter.Reason
		})
		return err == nil && found >= s.letters
	})
	if err == nil && found != s.letters {
		s.problem("there are %d dead letters and not %d; the last is %q", found, s.letters, last)
	}
	return err
}

// pages calls each with the items of a list, page by page.
func pages[T any](ctx context.Context, api *local.API, path string, query url.Values, each func(T)) error {
	query.Set("limit", "1000")
	for {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := api.Call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			each(item)
		}
		if page.Next == "" {
			return nil
		}
		query.Set("cursor", page.Next)
	}
}

// eventPage is how many events are asked for at once.
const eventPage = 1000

// eventsAfter returns the ids of the events after one, oldest first.
func (s *stand) eventsAfter(ctx context.Context, id string) ([]string, error) {
	var all []string
	for {
		var page struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
		}
		if err := s.API.Call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/events?limit=%d&after=%s", eventPage, id), nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Items {
			all = append(all, e.ID)
		}
		if len(page.Items) < eventPage {
			return all, nil
		}
		id = all[len(all)-1]
	}
}
