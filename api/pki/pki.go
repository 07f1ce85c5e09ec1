// Package pki serves what relying parties ask about our own authorities: the CA
// certificate, the revocation lists and OCSP, at the URLs that stand in every
// leaf (/.well-known/pki/<authority>/…). It answers over plain HTTP, because a
// list that can only be fetched over TLS is circular (RFC 5280 section 8), and
// over HTTPS at the same paths. It serves these paths and nothing else.
package pki

import (
	"context"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"
)

// Store holds what was published.
type Store interface {
	AuthorityByID(ctx context.Context, id certctl.ID) (certctl.Authority, error)
	GetCRL(ctx context.Context, authority certctl.ID, shard int) (certctl.CRL, error)
}

// Prefix is the path below which everything lies.
const Prefix = "/.well-known/pki/"

// Responder answers OCSP requests. A refusal is an answer; the error is for the
// log.
type Responder interface {
	Answer(ctx context.Context, authority certctl.ID, request []byte) (certctl.OCSPAnswer, error)
}

// Config is what the routes are made of.
type Config struct {
	Store Store
	OCSP  Responder
	Log   zerolog.Logger
}

// Handler returns the routes, for a listener of their own.
func Handler(c Config) http.Handler {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	register(router, c)
	return router
}

// Beside serves the same paths in front of another handler, which asks its callers
// who they are: what relying parties need to verify a certificate is for everybody.
func Beside(other http.Handler, c Config) http.Handler {
	published := Handler(c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, Prefix) {
			published.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

// register adds the routes. The router must use encoded paths: a request by GET is
// one element with escaped slashes.
func register(router *mux.Router, c Config) {
	h := handler{c}
	routes := router.PathPrefix(Prefix + "{authority}").Subrouter()
	fetch := routes.Methods(http.MethodGet, http.MethodHead).Subrouter()
	fetch.HandleFunc("/ca.crt", h.certificate)
	fetch.HandleFunc("/ca.pem", h.certificatePEM)
	fetch.HandleFunc("/crl/{shard:[0-9]{1,4}}.crl", h.shard)
	fetch.HandleFunc("/crl.crl", h.complete)
	fetch.HandleFunc("/ocsp/{request:.+}", h.ocspGet)
	routes.HandleFunc("/ocsp", h.ocspPost).Methods(http.MethodPost)
}

type handler struct{ Config }

// certificate answers with the DER that caIssuers promises (RFC 5280 section 4.2.2.1).
func (h handler) certificate(w http.ResponseWriter, r *http.Request) {
	if authority, ok := h.authority(w, r); ok {
		answer(w, r, "application/pkix-cert", authority.Certificate, authority.NotBefore, time.Hour)
	}
}

func (h handler) certificatePEM(w http.ResponseWriter, r *http.Request) {
	if authority, ok := h.authority(w, r); ok {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate})
		answer(w, r, "application/x-pem-file", block, authority.NotBefore, time.Hour)
	}
}

func (h handler) shard(w http.ResponseWriter, r *http.Request) {
	shard, err := strconv.Atoi(mux.Vars(r)["shard"])
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h.crl(w, r, shard)
}

func (h handler) complete(w http.ResponseWriter, r *http.Request) {
	h.crl(w, r, certctl.CompleteCRL)
}

// crl answers with the newest list; caches may keep it for a minute only, so
// that a revocation is seen soon although nextUpdate lies days ahead.
func (h handler) crl(w http.ResponseWriter, r *http.Request, shard int) {
	id, ok := authorityID(w, r)
	if !ok {
		return
	}
	list, err := h.Store.GetCRL(r.Context(), id, shard)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, r, "application/pkix-crl", list.DER, list.ThisUpdate, time.Minute)
}

func (h handler) authority(w http.ResponseWriter, r *http.Request) (certctl.Authority, bool) {
	id, ok := authorityID(w, r)
	if !ok {
		return certctl.Authority{}, false
	}
	authority, err := h.Store.AuthorityByID(r.Context(), id)
	if err == nil && len(authority.Certificate) == 0 {
		err = certctl.Errorf(certctl.NotFound, "this authority has no certificate yet")
	}
	if err != nil {
		refuse(w, err)
		return certctl.Authority{}, false
	}
	return authority, true
}

func authorityID(w http.ResponseWriter, r *http.Request) (certctl.ID, bool) {
	id, err := certctl.ParseID(mux.Vars(r)["authority"])
	if err != nil {
		http.NotFound(w, r)
	}
	return id, err == nil
}

// answer serves bytes with their date, so that conditional requests work.
func answer(w http.ResponseWriter, r *http.Request, mediaType string, body []byte, modified time.Time, maxAge time.Duration) {
	header := w.Header()
	header.Set("Content-Type", mediaType)
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(maxAge.Seconds())))
	header.Set("ETag", `"`+certctl.DigestOf(body).String()[:32]+`"`)
	http.ServeContent(w, r, "", modified, strings.NewReader(string(body)))
}

// refuse answers without a word about our insides: the readers are strangers.
func refuse(w http.ResponseWriter, err error) {
	switch certctl.ErrorCode(err) {
	case certctl.NotFound, certctl.Invalid:
		http.Error(w, "not found", http.StatusNotFound)
	default:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}
