package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest"
	"go.yaml.in/yaml/v3"
)

// declarations are what objects are to be, in a file: of a Secret of Kubernetes, of
// somebody's repository. A file that is wrong stops the start; later it changes
// nothing, and what it said before holds.
type declarations struct {
	path     string
	declarer *rest.Declarer
	server   *server
	seen     []byte
}

// readDeclarations reads a YAML file of lists of objects.
func readDeclarations(path string, content []byte) (rest.Declarations, error) {
	var lists map[string][]any
	if err := yaml.Unmarshal(content, &lists); err != nil {
		return nil, certctl.Errorf(certctl.Invalid, "%s does not hold lists of objects by their nouns, such as issuers", path)
	}
	all := rest.Declarations{}
	for noun, objects := range lists {
		for _, object := range objects {
			raw, err := json.Marshal(object)
			if err != nil {
				return nil, certctl.Errorf(certctl.Invalid, "%s: one of %s cannot be read", path, certctl.Clip(noun, 40))
			}
			all[noun] = append(all[noun], raw)
		}
	}
	return all, nil
}

// apply does what the file says, unless it has not changed since.
func (d *declarations) apply(ctx context.Context) error {
	content, err := os.ReadFile(d.path)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the file of declarations cannot be read")
	}
	if bytes.Equal(content, d.seen) {
		return nil
	}
	all, err := readDeclarations(d.path, content)
	if err != nil {
		return err
	}
	changed, err := d.declarer.Declare(ctx, all)
	for _, name := range changed {
		d.server.log.Info().Str("object", name).Msg("declared")
	}
	if err == nil {
		d.seen = content
	}
	return err
}

// startDeclarations applies the file once, and looks at it from then on. Another replica that
// makes the same object at this moment is no fault of the file.
func (s *server) startDeclarations(t *tasks, config rest.Config) error {
	if s.config.Declare == "" {
		return nil
	}
	d := &declarations{path: s.config.Declare, declarer: rest.NewDeclarer(config, s.store), server: s}
	if err := d.apply(t.ctx); err != nil && certctl.ErrorCode(err) != certctl.Conflict {
		return err
	}
	t.run("declarations", func(ctx context.Context) error { return s.follow(ctx, d.apply, "what is declared is not done") })
	return nil
}
