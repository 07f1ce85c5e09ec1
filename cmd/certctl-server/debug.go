package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// checkDebugListen keeps profiles on this machine: they show what a process
// holds in memory.
func (c *Config) checkDebugListen() error {
	if c.DebugListen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.DebugListen)
	if err != nil || port == "" {
		return certctl.InvalidField("debug_listen", "%q is not host:port", c.DebugListen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return certctl.InvalidField("debug_listen", "%q is not a loopback address: what is served there is not protected", c.DebugListen)
	}
	return nil
}

// startDebug serves, on this machine only, whether the process is ready, its
// metrics and its profiles. Processes of every role have it.
func (s *server) startDebug(t *tasks, conn *bus.Conn) error {
	if s.config.DebugListen == "" {
		return nil
	}
	listener, err := net.Listen("tcp", s.config.DebugListen)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the debug listener cannot use %s", s.config.DebugListen)
	}
	t.run("debug", s.serveHTTP(listener, s.debugHandler(s.ready(conn))))
	return nil
}

// startMetrics serves the metrics alone, where Prometheus reaches them: they name
// issuers and count, and hold nothing that has to be protected within a network.
func (s *server) startMetrics(t *tasks) error {
	if s.config.MetricsListen == "" {
		return nil
	}
	listener, err := net.Listen("tcp", s.config.MetricsListen)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the metrics cannot be served on %s", s.config.MetricsListen)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.handler())
	t.run("metrics", s.serveHTTP(listener, mux))
	return nil
}

func (s *server) debugHandler(ready func(context.Context) (bool, map[string]string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {}) // it answers: it lives
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		ok, checks := ready(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": ok, "checks": checks}) // the client has gone otherwise
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
