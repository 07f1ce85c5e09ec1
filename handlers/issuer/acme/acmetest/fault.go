package acmetest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
)

// Fault is what goes wrong with requests for a resource, so many times.
type Fault struct {
	Path  string
	Times int
	// One of them: the connection is reset before the server hears of the
	// request, or after it has done what was asked; or it answers a status.
	Reset      bool
	Lose       bool
	Status     int
	Problem    string // type of the problem document, without its prefix
	RetryAfter string
	// Hold keeps the request, which the server does not hear of before it is closed.
	Hold chan struct{}
	// Rewrite changes the answer's body.
	Rewrite func(body []byte) []byte
}

// Fail lets requests fail from now on.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Held is how many requests are kept by faults now.
func (s *Server) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *Server) hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += n
}

// next returns the fault that a request meets, or nil.
func (s *Server) next(path string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Times > 0 && strings.HasPrefix(path, f.Path) {
			f.Times--
			return f
		}
	}
	return nil
}

// faulty stands between the server and its clients.
func (s *Server) faulty(server http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault := s.next(r.URL.Path)
		if fault != nil && fault.Reset {
			panic(http.ErrAbortHandler)
		}
		if fault != nil && fault.Status != 0 {
			fault.answer(w)
			return
		}
		if fault != nil && fault.Hold != nil {
			s.hold(1)
			select {
			case <-fault.Hold:
			case <-r.Context().Done():
			}
			s.hold(-1)
		}
		replaces := predecessor(r)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, r)
		s.mu.Lock()
		s.count(r.URL.Path, answer.Code)
		if replaces != "" && answer.Code == http.StatusCreated {
			s.replaced = append(s.replaced, replaces)
		}
		s.mu.Unlock()
		if fault != nil && fault.Lose {
			panic(http.ErrAbortHandler)
		}
		body := answer.Body.Bytes()
		if fault != nil && fault.Rewrite != nil {
			body = fault.Rewrite(body)
		}
		for name, values := range answer.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	})
}

func (f *Fault) answer(w http.ResponseWriter) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.Problem == "" {
		http.Error(w, "<html>out of order</html>", f.Status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status)
	_, _ = fmt.Fprintf(w, `{"type": "urn:ietf:params:acme:error:%s", "detail": "as the test wants", "status": %d}`, f.Problem, f.Status)
}
