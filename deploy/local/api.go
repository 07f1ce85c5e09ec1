package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// API calls a certctl API as one principal.
type API struct {
	URL  string
	Key  string
	HTTP *http.Client
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("the API answered %d: %s", e.Status, e.Body) }

// Call sends body as JSON and decodes the answer into out; both may be nil. A
// *[]byte as out gets the answer as it is.
func (a *API) Call(ctx context.Context, method, path string, body, out any) error {
	return a.CallOnce(ctx, method, path, "", body, out)
}

// CallOnce is Call under an idempotency key: repeated, it changes nothing.
func (a *API) CallOnce(ctx context.Context, method, path, key string, body, out any) error {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, reader)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+a.Key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := a.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("call the API: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("read the API's answer: %w", err)
	case response.StatusCode/100 != 2:
		return &StatusError{Status: response.StatusCode, Body: string(content)}
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = content
		return nil
	default:
		if err := json.Unmarshal(content, out); err != nil {
			return fmt.Errorf("decode the API's answer: %w", err)
		}
		return nil
	}
}

func trimLine(b []byte) []byte { return bytes.TrimRight(b, "\r\n") }
