package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"
)

// validator holds requests against the description. Routes are found by the
// template that mux has matched: there is no second router.
type validator struct {
	spec    *openapi3.T
	options *openapi3filter.Options
}

func newValidator(spec *openapi3.T) *validator {
	return &validator{spec: spec, options: &openapi3filter.Options{
		MultiError:         true,
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // authenticate has done it
	}}
}

// check refuses a request that the description does not allow, with each wrong
// field. The validator's own messages quote values and are never sent.
func (v *validator) check(r *http.Request, body []byte) error {
	template, err := mux.CurrentRoute(r).GetPathTemplate()
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the route has no template")
	}
	item := v.spec.Paths.Value(template)
	if item == nil || item.GetOperation(r.Method) == nil {
		return certctl.Errorf(certctl.Internal, "the route %s is not described", template)
	}
	operation := item.GetOperation(r.Method)
	if err := unknownQuery(r, item, operation); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: mux.Vars(r), Options: v.options,
		Route: &routers.Route{Spec: v.spec, Path: template, PathItem: item, Method: r.Method, Operation: operation},
	})
	if err == nil {
		return nil // the body is there again, with the description's defaults filled in
	}
	var bad certctl.FieldErrors
	collect(err, &bad)
	return bad.Err()
}

// unknownQuery refuses a misspelt parameter, which would otherwise be ignored.
func unknownQuery(r *http.Request, item *openapi3.PathItem, operation *openapi3.Operation) error {
	var bad certctl.FieldErrors
	for name := range r.URL.Query() {
		known := func(p *openapi3.ParameterRef) bool {
			return p.Value.In == openapi3.ParameterInQuery && p.Value.Name == name
		}
		if !slices.ContainsFunc(operation.Parameters, known) && !slices.ContainsFunc(item.Parameters, known) {
			bad.Add("?"+certctl.Clip(name, 80), "there is no such parameter here")
		}
	}
	return bad.Err()
}

// collect turns the validator's nested errors into fields with safe reasons.
func collect(err error, bad *certctl.FieldErrors) {
	var many openapi3.MultiError
	if errors.As(err, &many) {
		for _, one := range many {
			collect(one, bad)
		}
		return
	}
	field := "/"
	var request *openapi3filter.RequestError
	if errors.As(err, &request) {
		if request.Parameter != nil {
			field = "?" + request.Parameter.Name
		}
		if inner := request.Unwrap(); errors.As(inner, &many) {
			collect(inner, bad)
			return
		}
	}
	var schema *openapi3.SchemaError
	if errors.As(err, &schema) {
		if pointer := schema.JSONPointer(); len(pointer) > 0 {
			field = "/" + strings.Join(pointer, "/")
		}
		bad.Add(field, "%s", certctl.Clip(schema.Reason, 200))
		return
	}
	reason := "is missing or cannot be read"
	if request != nil && request.Reason != "" {
		reason = certctl.Clip(request.Reason, 200)
	}
	bad.Add(field, "%s", reason)
}
