package rest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"
)

// Store is everything that the API asks of the database; each file declares its
// part.
type Store interface {
	AccessStore
	AdminStore
	AgentStore
	CertificateStore
	EventStore
	InventoryStore
	WorkStore
	RenewalStore
	TrialStore
	RecordStore
	RevocationStore
	RolloutStore
	GuardStore
	ChannelStore
}

// Signer does what needs a key: it runs in the signer role, across the bus.
type Signer interface {
	Enroll(ctx context.Context, request EnrollRequest) (certctl.Enrolled, error)
	Credentials(ctx context.Context, statement certctl.Statement) (certctl.Credentials, error)
	Reader(ctx context.Context, reader certctl.Reader) (string, error)
}

// SealSecret seals a value that may be written here and read only by workers.
type SealSecret func(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error)

// Config is what a Server needs.
type Config struct {
	Store         Store
	Signer        Signer
	Seal          SealSecret
	Feed          *Feed            // live events
	Metrics       http.Handler     // /metrics
	Answered      func(status int) // is told of each answer; may be nil
	Ready         func(context.Context) (ok bool, checks map[string]string)
	Issuers       IssuerKinds
	Targets       TargetKinds
	Channels      ChannelKinds
	CAFingerprint string // of the root that agents pin
	BusURLs       []string
	Version       string
	Now           func() time.Time
	Log           zerolog.Logger
}

// Server answers the API. It implements the generated strict interface; the
// operations are in the files named after their nouns.
type Server struct {
	Config
	store   Store
	denials denials
}

// New returns the handler of all routes of api/openapi.yaml, and the router so
// that others can add theirs.
func New(config Config) (*mux.Router, error) {
	document, err := gen.GetSpecJSON()
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the API description cannot be read")
	}
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the API description is not valid")
	}
	s := &Server{Config: config, store: config.Store}
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	router.NotFoundHandler = s.begin(http.HandlerFunc(s.notFound))
	router.MethodNotAllowedHandler = s.begin(http.HandlerFunc(s.notAllowed))
	strict := gen.NewStrictHandlerWithOptions(s, nil, gen.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  s.requestError,
		ResponseErrorHandlerFunc: s.writeProblem,
	})
	gen.HandlerWithOptions(strict, gen.GorillaServerOptions{
		BaseRouter: router, ErrorHandlerFunc: s.requestError,
		Middlewares: []gen.MiddlewareFunc{s.validated(newValidator(spec))},
	})
	router.Use(s.begin, s.authenticated)
	return router, nil
}

// request is what one request carries with it.
type request struct {
	id     string
	trace  string
	actor  certctl.Actor
	status int
	err    error
	accept string
	remote netip.Addr
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// actorOf returns on whose behalf a request is made.
func actorOf(ctx context.Context) certctl.Actor { return requestOf(ctx).actor }

func (r *request) failed(status int, err error) { r.status, r.err = status, err }

// begin gives the request its id, limits how long it may take, turns a panic
// into a problem and logs one line at the end.
func (s *Server) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		req := &request{id: certctl.NewID(started).String(), trace: traceparent(r), accept: r.Header.Get("Accept"), remote: remoteAddr(r.RemoteAddr)}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, req))
		w.Header().Set("X-Request-Id", req.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if caught := recover(); caught != nil {
				if caught == http.ErrAbortHandler { //nolint:errorlint // a panic's value, by identity
					panic(caught)
				}
				s.writeProblem(w, r, certctl.Errorf(certctl.Internal, "panic: %v", caught))
			}
			s.logRequest(r, req, time.Since(started))
		}()
		next.ServeHTTP(&recorder{ResponseWriter: w, request: req}, r)
	})
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	request *request
}

// WriteHeader notes the status and passes it on.
func (r *recorder) WriteHeader(status int) {
	r.request.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write is a 200 where nothing else was said before.
func (r *recorder) Write(body []byte) (int, error) {
	if r.request.status == 0 {
		r.request.status = http.StatusOK
	}
	return r.ResponseWriter.Write(body)
}

// Flush sends what is buffered: streams need it.
func (r *recorder) Flush() {
	if flusher, ok := r.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

func (s *Server) logRequest(r *http.Request, req *request, took time.Duration) {
	if s.Answered != nil {
		s.Answered(req.status)
	}
	event := s.Log.Debug()
	switch {
	case req.status >= 500:
		event = s.Log.Error().Err(req.err)
	case req.err != nil:
		event = s.Log.Info().Str("refused", req.err.Error())
	}
	event.Str("request", req.id).Str("method", r.Method).Str("path", r.URL.Path).
		Int("status", req.status).Str("principal", req.actor.Principal.Name).Dur("took", took).Msg("request")
}

// traceparent returns the W3C trace context that came with the request.
func traceparent(r *http.Request) string {
	if trace := r.Header.Get("Traceparent"); len(trace) == 55 {
		return trace
	}
	return ""
}

// authenticated finds the principal before anything of the body is read.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		template, err := mux.CurrentRoute(r).GetPathTemplate()
		if err != nil {
			s.writeProblem(w, r, certctl.Wrap(certctl.Internal, err, "the route has no template"))
			return
		}
		principal, err := s.authenticate(r, template)
		if err != nil {
			s.writeProblem(w, r, err)
			return
		}
		req := requestOf(r.Context())
		req.actor = certctl.Actor{Principal: principal, RequestID: req.id, Trace: req.trace}
		next.ServeHTTP(w, r)
	})
}

// validated holds the request against the description.
func (s *Server) validated(v *validator) gen.MiddlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := readBody(w, r)
			if err == nil {
				err = v.check(r, body)
			}
			if err != nil {
				s.writeProblem(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// requestError answers for what the generated code could not read.
func (s *Server) requestError(w http.ResponseWriter, r *http.Request, err error) {
	s.writeProblem(w, r, unread(err))
}

// unread names the parameter that was wrong, and how, where that is known.
func unread(err error) error {
	var format *gen.InvalidParamFormatError
	var required *gen.RequiredParamError
	var ours *certctl.Error
	switch {
	case errors.As(err, &required):
		return certctl.Wrap(certctl.Invalid, err, "the parameter %s is missing", required.ParamName)
	case errors.As(err, &format) && errors.As(format.Err, &ours):
		return certctl.Wrap(certctl.Invalid, err, "the parameter %s cannot be read: %s", format.ParamName, ours.Message)
	case errors.As(err, &format):
		return certctl.Wrap(certctl.Invalid, err, "the parameter %s cannot be read: its type is another, see /api/v1/openapi.yaml", format.ParamName)
	}
	return certctl.Wrap(certctl.Invalid, err, "the request cannot be read: check its parameters and body")
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.writeProblem(w, r, certctl.Errorf(certctl.NotFound, "there is nothing at %s", certctl.Clip(r.URL.Path, 200)).
		WithRemedy("see /api/v1/openapi.yaml"))
}

func (s *Server) notAllowed(w http.ResponseWriter, r *http.Request) {
	s.writeProblem(w, r, statusError{http.StatusMethodNotAllowed,
		certctl.Errorf(certctl.Invalid, "%s is not possible at %s", certctl.Clip(r.Method, 20), certctl.Clip(r.URL.Path, 200))})
}
