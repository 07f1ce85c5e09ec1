package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

// nameArg is the object that a verb is about.
type nameArg struct {
	Name string `arg:"" help:"Name or id."`
}

// waiting makes a verb wait for what it started.
type waiting struct {
	Wait bool `help:"Wait until it is served." env:"-"`
}

// item is the path of one object.
func item(collection, name string) string { return collection + "/" + url.PathEscape(name) }

// params makes a query of the pairs whose value is not empty.
func params(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}

func set(body object, field string, values []string) {
	if len(values) > 0 {
		body[field] = values
	}
}

func setText(body object, field, value string) {
	if value != "" {
		body[field] = value
	}
}

// list prints a collection.
func (s *session) list(path string, query url.Values, limit int, table columns) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	items, err := client.list(ctx, path, query, limit)
	if err != nil {
		return err
	}
	return s.show(items, table)
}

// get prints one object.
func (s *session) get(collection, name string) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodGet, item(collection, name), nil, nil)
	if err != nil {
		return err
	}
	return s.showOne(answer)
}

// change sends a change and prints the object that it gave, waiting if asked.
func (s *session) change(method, path string, body any, wait waiting) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	if wait.Wait {
		name, _ := answer["id"].(string)
		return s.await(ctx, client, name)
	}
	if answer == nil {
		return nil
	}
	return s.showOne(answer)
}

// ifMissing makes a creation that can be repeated.
type ifMissing struct {
	IfMissing bool `help:"Succeed when there is one of that name, and leave it as it is." env:"-"`
}

// exists reports whether there is an object, when that is to be asked.
func (c ifMissing) exists(s *session, collection, name string) (bool, error) {
	if !c.IfMissing {
		return false, nil
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return false, err
	}
	defer cancel()
	_, err = client.call(ctx, http.MethodGet, item(collection, name), nil, nil)
	var failure *apiError
	if errors.As(err, &failure) && failure.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// changeList sends a change and prints the list that it gave.
func (s *session) changeList(path string, body any, table columns) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	items, _ := answer["items"].([]any)
	return s.show(items, table)
}

// remove deletes one object.
func (s *session) remove(collection, name string) error {
	return s.change(http.MethodDelete, item(collection, name), nil, waiting{})
}

// readObject reads one object from a YAML or JSON file, - for standard input.
func readObject(path string) (object, error) {
	content, err := readInput(path)
	if err != nil {
		return nil, err
	}
	var body object
	if err := yaml.Unmarshal(content, &body); err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s is neither YAML nor JSON", path)
	}
	if body == nil {
		return nil, certctl.Errorf(certctl.Invalid, "%s holds no object", path)
	}
	return body, nil
}

// fileArg is a file that describes an object.
type fileArg struct {
	File string `help:"YAML or JSON file with the object, - for standard input." short:"f" required:"" env:"-" placeholder:"FILE"`
}

// settingValues turns key=value pairs into a settings object; values are YAML,
// so that numbers, booleans and lists come through.
func settingValues(pairs map[string]string) (object, error) {
	settings := object{}
	for key, text := range pairs {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "the setting %s cannot be read", key)
		}
		at, path := settings, strings.Split(key, ".")
		for _, step := range path[:len(path)-1] {
			inner, ok := at[step].(object)
			if !ok {
				inner = object{}
				at[step] = inner
			}
			at = inner
		}
		at[path[len(path)-1]] = value
	}
	return settings, nil
}
