package challenge

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

// maxHeader bounds a request. CAs send a path and a few lines.
const maxHeader = 8 << 10

// serveHTTP serves proofs of http-01 until the listener is closed. Connections are
// not kept: each has its one request, and one deadline for all of it.
func (k *Keeper) serveHTTP(l net.Listener) {
	server := &http.Server{
		Handler: http.HandlerFunc(k.handleHTTP), MaxHeaderBytes: maxHeader, ReadTimeout: connectionTime, WriteTimeout: connectionTime,
		ErrorLog: log.New(io.Discard, "", 0), // of strangers' connections
	}
	server.SetKeepAlivesEnabled(false)
	_ = server.Serve(l) // the listener was closed
}

func (k *Keeper) handleHTTP(w http.ResponseWriter, r *http.Request) {
	token, below := strings.CutPrefix(r.URL.Path, "/"+folder+"/")
	if !below {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	answer, held := k.answer(token)
	if !held {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, answer) // a client that went away
}
