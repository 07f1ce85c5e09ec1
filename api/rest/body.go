package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/certctl/certctl"
)

// Limits of a request's body.
const (
	maxBody     = 1 << 20
	maxBulkBody = 16 << 20
	bulkPrefix  = "/api/v1/bulk/"
)

// readBody takes the whole body within its limit and checks what the generated
// decoder does not: one JSON value, nothing after it, no key twice. Handlers
// and validation then read the same bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	limit := int64(maxBody)
	if strings.HasPrefix(r.URL.Path, bulkPrefix) {
		limit = maxBulkBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, statusError{http.StatusRequestEntityTooLarge, certctl.Errorf(certctl.Invalid, "the body is larger than %d bytes", limit)}
	case err != nil:
		return nil, certctl.Wrap(certctl.Invalid, err, "the body could not be read")
	case len(body) == 0:
		return nil, nil
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return nil, statusError{http.StatusUnsupportedMediaType, certctl.Errorf(certctl.Invalid, "bodies are application/json")}
	}
	return body, checkJSON(body)
}

// checkJSON refuses bytes after the value, and objects that name a key twice:
// two readers could otherwise understand the same request differently.
func checkJSON(body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := walkValue(decoder, ""); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return certctl.Errorf(certctl.Invalid, "there is something after the JSON value")
	}
	return nil
}

func walkValue(decoder *json.Decoder, path string) error {
	token, err := decoder.Token()
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the body is not valid JSON (at byte %d)", decoder.InputOffset())
	}
	switch token {
	case json.Delim('{'):
		return walkObject(decoder, path)
	case json.Delim('['):
		for i := 0; decoder.More(); i++ {
			if err := walkValue(decoder, fmt.Sprintf("%s/%d", path, i)); err != nil {
				return err
			}
		}
		_, err = decoder.Token()
	}
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the body is not valid JSON (at byte %d)", decoder.InputOffset())
	}
	return nil
}

// pointerEscape writes a name as a JSON pointer has it (RFC 6901 section 3).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func walkObject(decoder *json.Decoder, path string) error {
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the body is not valid JSON (at byte %d)", decoder.InputOffset())
		}
		key, _ := token.(string) // a key is a string, or Token has failed
		pointer := path + "/" + pointerEscape.Replace(certctl.Clip(key, 80))
		if seen[key] {
			return certctl.InvalidField(pointer, "this key stands here twice")
		}
		seen[key] = true
		if err := walkValue(decoder, pointer); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the body is not valid JSON (at byte %d)", decoder.InputOffset())
	}
	return nil
}
