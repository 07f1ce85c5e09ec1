package rest

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// DeclarationStore remembers what was declared.
type DeclarationStore interface {
	Declared(ctx context.Context, noun, name string) (certctl.Digest, error)
	RecordDeclared(ctx context.Context, noun, name string, digest certctl.Digest) error
}

// Declarer makes objects what a file says, by the same code that serves requests.
// What it has made so once is left as it is, whoever changes it, until the file says
// something else.
type Declarer struct {
	server *Server
	store  DeclarationStore
}

// NewDeclarer returns one that acts with the API's configuration.
func NewDeclarer(config Config, store DeclarationStore) *Declarer {
	return &Declarer{server: &Server{Config: config, store: config.Store}, store: store}
}

// declarable is a kind of object that can be declared.
type declarable struct {
	noun   string
	exists func(ctx context.Context, name string) error
	put    func(ctx context.Context, name string, raw json.RawMessage, create bool) error
}

// declarables are the kinds, in the order in which one may refer to the other.
func (s *Server) declarables() []declarable {
	return []declarable{
		declarableOf("profiles", s.store.GetProfile,
			func(ctx context.Context, body *gen.ProfileRequest) error {
				_, err := s.CreateProfile(ctx, gen.CreateProfileRequestObject{Body: body})
				return err
			}, func(ctx context.Context, name string, body *gen.ProfileRequest) error {
				_, err := s.UpdateProfile(ctx, gen.UpdateProfileRequestObject{Profile: name, Body: body})
				return err
			}),
		declarableOf("renewal_policies", s.store.GetRenewalPolicy,
			func(ctx context.Context, body *gen.RenewalPolicyRequest) error {
				_, err := s.CreateRenewalPolicy(ctx, gen.CreateRenewalPolicyRequestObject{Body: body})
				return err
			}, func(ctx context.Context, name string, body *gen.RenewalPolicyRequest) error {
				_, err := s.UpdateRenewalPolicy(ctx, gen.UpdateRenewalPolicyRequestObject{Policy: name, Body: body})
				return err
			}),
		declarableOf("issuers", s.store.GetIssuer,
			func(ctx context.Context, body *gen.IssuerRequest) error {
				_, err := s.CreateIssuer(ctx, gen.CreateIssuerRequestObject{Body: body})
				return err
			}, func(ctx context.Context, name string, body *gen.IssuerRequest) error {
				_, err := s.UpdateIssuer(ctx, gen.UpdateIssuerRequestObject{Issuer: name, Body: body})
				return err
			}),
		declarableOf("channels", s.store.GetChannel,
			func(ctx context.Context, body *gen.ChannelRequest) error {
				_, err := s.CreateChannel(ctx, gen.CreateChannelRequestObject{Body: body})
				return err
			}, func(ctx context.Context, name string, body *gen.ChannelRequest) error {
				_, err := s.UpdateChannel(ctx, gen.UpdateChannelRequestObject{Channel: name, Body: body})
				return err
			}),
	}
}

// declarableOf makes one of what reads, creates and updates such an object.
func declarableOf[Object, Body any](noun string, get func(context.Context, certctl.Actor, string) (Object, error),
	create func(context.Context, *Body) error, update func(context.Context, string, *Body) error,
) declarable {
	return declarable{
		noun: noun,
		exists: func(ctx context.Context, name string) error {
			_, err := get(ctx, actorOf(ctx), name)
			return err
		},
		put: func(ctx context.Context, name string, raw json.RawMessage, fresh bool) error {
			var body Body
			if err := strictly(raw, &body); err != nil {
				return err
			}
			if fresh {
				return create(ctx, &body)
			}
			return update(ctx, name, &body)
		},
	}
}

// Declarations are objects by their nouns: profiles, renewal_policies, issuers and
// channels, each as the API takes it.
type Declarations map[string][]json.RawMessage

// Declare makes the objects what they are declared to be, and returns the names of
// those that were not. The first that cannot be is an error that names it.
func (d *Declarer) Declare(ctx context.Context, all Declarations) (changed []string, err error) {
	ctx = context.WithValue(ctx, requestKey{}, &request{actor: certctl.SystemActor("declaration")})
	kinds := d.server.declarables()
	for noun := range all {
		if !slices.ContainsFunc(kinds, func(kind declarable) bool { return kind.noun == noun }) {
			return nil, certctl.Errorf(certctl.Invalid, "%q cannot be declared: use profiles, renewal_policies, issuers, channels", certctl.Clip(noun, 40))
		}
	}
	for _, kind := range kinds {
		for i, raw := range all[kind.noun] {
			name, done, err := d.declare(ctx, kind, raw)
			if err != nil {
				e := certctl.Wrap(certctl.ErrorCode(err), err, "%s, number %d (%s): %s", kind.noun, i+1, certctl.Clip(name, 100), certctl.ErrorMessage(err))
				return changed, e
			}
			if done {
				changed = append(changed, kind.noun+"/"+name)
			}
		}
	}
	return changed, nil
}

func (d *Declarer) declare(ctx context.Context, kind declarable, raw json.RawMessage) (name string, changed bool, err error) {
	var named struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(raw, &named); err != nil || named.Name == "" {
		return "", false, certctl.Errorf(certctl.Invalid, "must be an object with a name")
	}
	name = named.Name
	digest, err := declarationDigest(kind.noun, name, raw)
	if err != nil {
		return name, false, err
	}
	known, err := d.store.Declared(ctx, kind.noun, name)
	if err != nil {
		return name, false, err
	}
	missing := kind.exists(ctx, name)
	if missing != nil && certctl.ErrorCode(missing) != certctl.NotFound {
		return name, false, missing
	}
	if missing == nil && known == digest {
		return name, false, nil
	}
	if err := kind.put(ctx, name, raw, missing != nil); err != nil {
		return name, false, err
	}
	return name, true, d.store.RecordDeclared(ctx, kind.noun, name, digest)
}

// digestRounds make a guess at a declaration's secrets as dear as one at a password.
const digestRounds = 100_000

func declarationDigest(noun, name string, raw json.RawMessage) (digest certctl.Digest, err error) {
	derived, err := pbkdf2.Key(sha256.New, string(raw), []byte("certctl declaration "+noun+"/"+name), digestRounds, len(digest))
	if err != nil {
		return digest, certctl.Wrap(certctl.Internal, err, "the declaration cannot be remembered")
	}
	copy(digest[:], derived)
	return digest, nil
}

// strictly decodes an object and refuses fields that it does not have.
func strictly(raw json.RawMessage, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return certctl.Errorf(certctl.Invalid, "%s", certctl.Clip(err.Error(), 200))
	}
	return nil
}
