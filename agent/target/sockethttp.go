package target

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Bounds of what programs ask.
const (
	maxPoll        = 5 * time.Minute // of ?wait=
	maxReport      = 4 << 10
	maxReportWords = 500
)

// connKey is where a request's context has its connection.
type connKey struct{}

// handed is a certificate as programs get it.
type handed struct {
	Name        string         `json:"name"`
	Fingerprint certctl.Digest `json:"fingerprint"` // SHA-256 of the leaf
	DNSNames    []string       `json:"dns_names"`
	NotAfter    time.Time      `json:"not_after"`
	Tag         string         `json:"tag"` // of this time that it is handed out; also the ETag
	Fullchain   string         `json:"fullchain,omitempty"`
	Key         string         `json:"key,omitempty"`
}

// handler answers
//
//	GET  /v1/certificates                what there is, without keys
//	GET  /v1/certificates/{name}         one with its key; ?wait=60 with If-None-Match: when there is another;
//	                                     ?format=pem: key and chain as one file
//	POST /v1/certificates/{name}/report  {"tag": …} it is loaded, {"tag": …, "error": …} it cannot be used
func (o *socketOutlet) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/certificates", o.serveList)
	mux.HandleFunc("GET /v1/certificates/{name}", o.serveOne)
	mux.HandleFunc("POST /v1/certificates/{name}/report", o.serveReport)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		conn, ok := r.Context().Value(connKey{}).(*unixsock.Conn)
		switch {
		case !ok:
			o.refuse(w, certctl.Errorf(certctl.Denied, "it is not known who asks"))
		case conn.Refusal != nil:
			w.Header().Set("Connection", "close")
			o.refuse(w, conn.Refusal)
		default:
			if r.ContentLength != 0 {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(o.limits.read)) // else the connection has ended
			}
			mux.ServeHTTP(w, r)
		}
	})
}

func (o *socketOutlet) serveList(w http.ResponseWriter, _ *http.Request) {
	all := []handed{}
	for _, c := range o.list() {
		out, err := handOut(c)
		if err != nil {
			o.refuse(w, err)
			return
		}
		out.Fullchain, out.Key = "", ""
		all = append(all, out)
	}
	slices.SortFunc(all, func(a, b handed) int { return cmp.Compare(a.Name, b.Name) })
	o.answer(w, map[string]any{"items": all})
}

func (o *socketOutlet) serveOne(w http.ResponseWriter, r *http.Request) {
	patience, err := patienceOf(r)
	format := r.URL.Query().Get("format")
	if err == nil && format != "" && format != "json" && format != "pem" {
		err = certctl.Errorf(certctl.Invalid, "format must be json or pem")
	}
	if err != nil {
		o.refuse(w, err)
		return
	}
	name, has := r.PathValue("name"), r.Header.Get("If-None-Match")
	c := o.poll(r.Context(), name, has, patience)
	switch {
	case c == nil:
		o.refuse(w, certctl.Errorf(certctl.NotFound, "nothing is installed at the place %q", certctl.Clip(name, 100)))
	case quoted(c.tag) == has:
		w.Header().Set("ETag", has)
		o.write(w, http.StatusNotModified, "", nil)
	case format == "pem":
		w.Header().Set("ETag", quoted(c.tag))
		o.write(w, http.StatusOK, "application/x-pem-file", slices.Concat(c.Key, c.Fullchain))
	default:
		out, err := handOut(c)
		if err != nil {
			o.refuse(w, err)
			return
		}
		w.Header().Set("ETag", quoted(out.Tag))
		o.answer(w, out)
	}
}

// poll waits until something else is current than a program has, be it nothing, or
// patience ends.
func (o *socketOutlet) poll(ctx context.Context, name, has string, patience time.Duration) *offer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o.asksFor(name, 1)
	defer o.asksFor(name, -1)
	for {
		c, news := o.get(name)
		if c != nil && quoted(c.tag) != has || c == nil && has != "" {
			return c
		}
		select {
		case <-news:
		case <-ctx.Done():
			return c
		case <-o.ended:
			return c
		}
	}
}

func patienceOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 || seconds > int(maxPoll.Seconds()) {
		return 0, certctl.Errorf(certctl.Invalid, "wait must be seconds, at most %d", int(maxPoll.Seconds()))
	}
	return time.Duration(seconds) * time.Second, nil
}

func (o *socketOutlet) serveReport(w http.ResponseWriter, r *http.Request) {
	var said struct {
		Tag   string `json:"tag"`
		Error string `json:"error"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReport))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&said); err != nil || said.Tag == "" {
		o.refuse(w, certctl.Errorf(certctl.Invalid, "the report must be an object with the tag of the certificate, and an error if it cannot be used"))
		return
	}
	if !o.report(r.PathValue("name"), said.Tag, certctl.Clip(strings.ToValidUTF8(said.Error, "?"), maxReportWords)) {
		o.refuse(w, certctl.Errorf(certctl.Conflict, "another certificate is current there now, or none: get it once more"))
		return
	}
	o.write(w, http.StatusNoContent, "", nil)
}

func quoted(tag string) string { return `"` + tag + `"` }

// handOut is what a program gets.
func handOut(c *offer) (handed, error) {
	block, _ := pem.Decode(c.Fullchain)
	if block == nil {
		return handed{}, certctl.Errorf(certctl.Internal, "there is no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return handed{}, err
	}
	return handed{
		Name: c.Name, Fingerprint: certctl.DigestOf(block.Bytes), DNSNames: append([]string{}, leaf.DNSNames...), NotAfter: leaf.NotAfter.UTC(),
		Tag: c.tag, Fullchain: string(c.Fullchain), Key: string(c.Key),
	}, nil
}

func (o *socketOutlet) answer(w http.ResponseWriter, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		o.refuse(w, err)
		return
	}
	o.write(w, http.StatusOK, "application/json", append(encoded, '\n'))
}

// write gives one who reads slowly as long as any other.
func (o *socketOutlet) write(w http.ResponseWriter, status int, kind string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(o.limits.write)) // else the connection has ended
	if kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(status)
	if len(body) > 0 {
		_, _ = w.Write(body) // who has gone asks again
	}
}

// statuses are of what programs can be told.
var statuses = map[certctl.Code]int{
	certctl.Denied: http.StatusForbidden, certctl.RateLimited: http.StatusServiceUnavailable, certctl.Invalid: http.StatusBadRequest,
	certctl.NotFound: http.StatusNotFound, certctl.Conflict: http.StatusConflict,
}

// refuse answers with a problem (RFC 9457).
func (o *socketOutlet) refuse(w http.ResponseWriter, err error) {
	status, ok := statuses[certctl.ErrorCode(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	problem := map[string]any{"status": status, "title": http.StatusText(status), "detail": certctl.ErrorMessage(err)}
	var ours *certctl.Error
	if errors.As(err, &ours) && ours.Remedy != "" {
		problem["remedy"] = ours.Remedy
	}
	encoded, encodeErr := json.Marshal(problem)
	if encodeErr != nil {
		encoded = nil // it is of strings and a number: this cannot be
	}
	o.write(w, status, "application/problem+json", append(encoded, '\n'))
}
