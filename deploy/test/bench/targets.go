package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// target is a request as vegeta reads it (-format=json), one a line; k6.js reads the
// same. Body is base64 there, as encoding/json has it.
type target struct {
	Method string      `json:"method"`
	URL    string      `json:"url"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// writeTargets writes requests for certificates, each with a CSR of its own, for
// load generators that make none. Their names are new with each call.
func writeTargets(path, server string, count int) (err error) {
	prefix := fmt.Sprintf("load-%d", time.Now().Unix())
	requests, err := makeRequests(prefix, count)
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriter(file)
	lines := json.NewEncoder(out)
	for n, csr := range requests {
		body, err := json.Marshal(map[string]string{"name": fmt.Sprintf("%s-%d", prefix, n), "issuer": "local", "csr": csr})
		if err != nil {
			return err
		}
		if err := lines.Encode(target{
			Method: http.MethodPost, URL: strings.TrimSuffix(server, "/") + "/api/v1/certificates",
			Header: http.Header{"Content-Type": {"application/json"}}, Body: body,
		}); err != nil {
			return err
		}
	}
	return out.Flush()
}
