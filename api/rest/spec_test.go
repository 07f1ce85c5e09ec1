package rest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/api"
	"github.com/certctl/certctl/api/rest"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gorilla/mux"
)

func spec(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(api.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// The description is valid, and says of each operation what clients need.
func TestDescriptionIsComplete(t *testing.T) {
	t.Parallel()
	document := spec(t)
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + path
			switch {
			case operation.OperationID == "" || seen[operation.OperationID]:
				t.Errorf("%s: the operationId %q is missing or used twice", name, operation.OperationID)
			case operation.Summary == "" || strings.HasSuffix(operation.Summary, "."):
				t.Errorf("%s: the summary %q is missing, or a sentence", name, operation.Summary)
			case len(operation.Tags) != 1:
				t.Errorf("%s: has tags %v, not one", name, operation.Tags)
			case operation.Responses.Default() == nil:
				t.Errorf("%s: does not say what errors look like", name)
			}
			seen[operation.OperationID] = true
			for _, p := range operation.Parameters {
				if p.Value.Description == "" {
					t.Errorf("%s: the parameter %s has no description", name, p.Value.Name)
				}
			}
		}
	}
	for name, schema := range document.Components.Schemas {
		if strings.HasSuffix(name, "Request") || strings.HasSuffix(name, "Patch") {
			if has := schema.Value.AdditionalProperties.Has; has == nil || *has {
				t.Errorf("%s: unknown fields would be ignored: additionalProperties must be false", name)
			}
		}
	}
}

// Whatever is described is routed, and nothing else is.
func TestRoutesAreTheDescription(t *testing.T) {
	t.Parallel()
	router, err := rest.New(rest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var routed, described []string
	if err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err != nil {
			return err
		}
		methods, err := route.GetMethods()
		for _, method := range methods {
			routed = append(routed, method+" "+path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for path, item := range spec(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(described)
	if !slices.Equal(routed, described) {
		t.Errorf("routed %v\ndescribed %v", routed, described)
	}
}

// Every operation with a key refuses whoever has none, before it reads anything.
func TestEveryOperationNeedsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, item := range spec(t).Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Security != nil && len(*operation.Security) == 0 {
				continue
			}
			path := strings.NewReplacer("{", "", "}", "").Replace(path)
			for name, key := range map[string]string{"no key": "", "an unknown key": "cck_unknown"} {
				a := w.do(method, path, key, nil)
				if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s with %s: %d", method, path, name, a.status)
				}
			}
		}
	}
}
