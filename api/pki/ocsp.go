package pki

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

const (
	// maxOCSPRequest is what a request may hold: dozens of certificates, or one
	// with a signature and its chain.
	maxOCSPRequest = 10 << 10
	// ocspMaxAge is how long caches may keep an answer, so that a revocation is
	// seen soon although nextUpdate lies hours ahead.
	ocspMaxAge = time.Minute
)

// ocspPost answers a request in a body (RFC 6960 appendix A.1).
func (h handler) ocspPost(w http.ResponseWriter, r *http.Request) {
	id, ok := authorityID(w, r)
	if !ok {
		return
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSPRequest))
	if err != nil {
		http.Error(w, "the request is too large or was cut off", http.StatusBadRequest)
		return
	}
	answer := h.ask(r, id, der)
	w.Header().Set("Cache-Control", "no-store")
	h.writeOCSP(w, r, answer)
}

// ocspGet answers a request in the path, which caches on the way may keep
// (RFC 5019 section 5). Clients escape the base64 or do not.
func (h handler) ocspGet(w http.ResponseWriter, r *http.Request) {
	id, ok := authorityID(w, r)
	if !ok {
		return
	}
	_, encoded, _ := strings.Cut(r.URL.EscapedPath(), "/ocsp/")
	var der []byte
	if text, err := url.PathUnescape(encoded); err == nil && len(text) <= base64.StdEncoding.EncodedLen(maxOCSPRequest) {
		der, _ = base64.StdEncoding.DecodeString(text) // what cannot be read is refused as malformed
	}
	answer := h.ask(r, id, der)
	if answer.NextUpdate.IsZero() || answer.Nonce {
		w.Header().Set("Cache-Control", "no-store")
	} else {
		w.Header().Set("Cache-Control", "public, no-transform, must-revalidate, max-age="+strconv.Itoa(int(ocspMaxAge.Seconds())))
		w.Header().Set("Last-Modified", answer.ThisUpdate.Format(http.TimeFormat))
		w.Header().Set("Expires", answer.NextUpdate.Format(http.TimeFormat))
		w.Header().Set("ETag", `"`+certctl.DigestOf(answer.DER).String()+`"`)
	}
	h.writeOCSP(w, r, answer)
}

func (h handler) ask(r *http.Request, id certctl.ID, der []byte) certctl.OCSPAnswer {
	answer, err := h.OCSP.Answer(r.Context(), id, der)
	if err != nil && r.Context().Err() == nil {
		h.Log.Error().Err(err).Stringer("authority", id).Msg("OCSP request not answered")
	}
	return answer
}

// writeOCSP answers 200 also for refusals: they are OCSP responses.
func (h handler) writeOCSP(w http.ResponseWriter, r *http.Request, answer certctl.OCSPAnswer) {
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer.DER)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(answer.DER) // a client that went away
	}
}
