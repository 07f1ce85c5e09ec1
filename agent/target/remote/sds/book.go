package sds

import (
	"context"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// maxUnanswered bounds what is kept of a client that never answers.
const maxUnanswered = 16

// maxNames bounds what one stream may want: a target has fewer places, and what is kept
// of a client must not grow with his wishes.
const maxNames = 10_000

// settling is how long after its beginning a service expects those of before to come
// back.
const settling = time.Minute

// maxWords bounds what is quoted of a refusal.
const maxWords = 500

// streamID is of a stream: the two protocols count for themselves.
type streamID struct {
	delta bool
	id    int64
}

// opinion is what a client said of a secret.
type opinion struct {
	content certctl.Digest
	refusal string // its words, when it refused
}

// stream is what is known of one.
type stream struct {
	everything bool                                 // it has named no secret, which means all
	wants      map[string]bool                      // names
	sent       map[string]map[string]certctl.Digest // nonce, name: what it was sent and has not answered
	said       map[string]opinion                   // name: of what it was sent last
}

// book keeps what clients say of what they are sent.
type book struct {
	start time.Time

	mu      sync.Mutex // guards all below
	offered map[string]certctl.Digest
	streams map[streamID]*stream
	news    chan struct{} // closed and made anew with each change
}

func newBook() *book {
	return &book{start: time.Now(), offered: map[string]certctl.Digest{}, streams: map[streamID]*stream{}, news: make(chan struct{})}
}

// change does something to the book and wakes who waits for it.
func (b *book) change(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	close(b.news)
	b.news = make(chan struct{})
}

// callbacks are what the library tells.
func (b *book) callbacks() server.Callbacks {
	opens := func(delta bool) func(context.Context, int64, string) error {
		return func(_ context.Context, id int64, _ string) error {
			b.change(func() {
				b.streams[streamID{delta, id}] = &stream{
					wants: map[string]bool{}, sent: map[string]map[string]certctl.Digest{}, said: map[string]opinion{},
				}
			})
			return nil
		}
	}
	closes := func(delta bool) func(int64, *corev3.Node) {
		return func(id int64, _ *corev3.Node) { b.change(func() { delete(b.streams, streamID{delta, id}) }) }
	}
	return server.CallbackFuncs{
		StreamOpenFunc: opens(false), DeltaStreamOpenFunc: opens(true), StreamClosedFunc: closes(false), DeltaStreamClosedFunc: closes(true),
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error {
			return b.asked(streamID{false, id}, r.GetResponseNonce(), r.GetErrorDetail(), func(s *stream) {
				s.everything = len(r.GetResourceNames()) == 0
				s.wants = map[string]bool{}
				s.want(r.GetResourceNames())
			})
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return b.asked(streamID{true, id}, r.GetResponseNonce(), r.GetErrorDetail(), func(s *stream) {
				s.want(r.GetResourceNamesSubscribe())
				for _, name := range r.GetResourceNamesUnsubscribe() {
					delete(s.wants, name)
				}
				s.everything = len(s.wants) == 0 || s.wants["*"]
			})
		},
		StreamResponseFunc: func(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			b.answers(streamID{false, id}, r.GetNonce(), r.GetResources())
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			var all []*anypb.Any
			for _, resource := range r.GetResources() {
				all = append(all, resource.GetResource())
			}
			b.answers(streamID{true, id}, r.GetNonce(), all)
		},
	}
}

func (s *stream) want(names []string) {
	for _, name := range names {
		s.wants[name] = true
	}
}

// asked notes what a client wants, and what it says of what it was sent. One that wants
// too much is told so, which ends its stream.
func (b *book) asked(id streamID, nonce string, refusal *rpcstatus.Status, note func(*stream)) (err error) {
	b.change(func() {
		s := b.streams[id]
		if s == nil {
			return
		}
		if note(s); len(s.wants) > maxNames {
			err = status.Errorf(codes.ResourceExhausted, "a stream may ask for %d secrets by name", maxNames)
			return
		}
		for name, content := range s.sent[nonce] {
			said := opinion{content: content}
			if refusal != nil {
				said.refusal = "it gives no reason"
				if words := refusal.GetMessage(); words != "" {
					said.refusal = certctl.Clip(strings.ToValidUTF8(words, "?"), maxWords)
				}
			}
			s.said[name] = said
		}
		delete(s.sent, nonce)
	})
	return err
}

// answers notes what a client is sent. It has said nothing of it yet.
func (b *book) answers(id streamID, nonce string, resources []*anypb.Any) {
	b.change(func() {
		s := b.streams[id]
		if s == nil {
			return
		}
		sent := map[string]certctl.Digest{}
		for _, resource := range resources {
			var secret tlsv3.Secret
			if err := resource.UnmarshalTo(&secret); err != nil {
				continue // not ours
			}
			sent[secret.GetName()] = contentOf(&secret)
			delete(s.said, secret.GetName())
		}
		if len(s.sent) >= maxUnanswered {
			clear(s.sent)
		}
		s.sent[nonce] = sent
	})
}

// offer notes what is about to be handed out, perhaps once more: nobody has said
// anything of it yet.
func (b *book) offer(changed []target.Current, gone []string) {
	b.change(func() {
		for _, c := range changed {
			b.offered[c.Name] = contentOf(secret(c))
			for _, s := range b.streams {
				delete(s.said, c.Name)
			}
		}
		for _, name := range gone {
			delete(b.offered, name)
		}
	})
}

// await waits until every client that wants it has said what it thinks of what is
// offered, or ctx ends. Its error is a refusal.
func (b *book) await(ctx context.Context, ended <-chan struct{}, name string) error {
	for {
		b.mu.Lock()
		news := b.news
		took, waiting, err := b.opinions(name)
		_, offered := b.offered[name]
		waiting = waiting || offered && took == 0 && time.Since(b.start) < settling
		b.mu.Unlock()
		if err != nil || !waiting {
			return err
		}
		select {
		case <-news:
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil // who serves it is for the probe to see
		}
	}
}

// opinions says how many have taken what is offered, whether somebody has said nothing
// yet, and the refusal of one. The lock is held.
func (b *book) opinions(name string) (took int, waiting bool, err error) {
	content, offered := b.offered[name]
	if !offered {
		return 0, false, nil
	}
	for _, s := range b.streams {
		if !s.everything && !s.wants[name] {
			continue
		}
		said, ok := s.said[name]
		switch {
		case !ok || said.content != content:
			waiting = true
		case said.refusal != "":
			return 0, false, certctl.Errorf(certctl.Conflict, "a client of SDS refuses %s: %s", name, said.refusal).
				WithRemedy("what does the client's own log say?")
		default:
			took++
		}
	}
	return took, waiting, nil
}

// loaded reports whether some client has taken it, and none that wants it has refused
// it or is silent.
func (b *book) loaded(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	took, waiting, err := b.opinions(name)
	return err == nil && !waiting && took > 0
}
