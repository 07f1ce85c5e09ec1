package remote

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/pem"
	"maps"
	"slices"
	"sync"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

// What a Secret of kind kubernetes.io/tls holds, and how ours are marked: by a
// label to select them by, and with the target that they belong to.
const (
	secretType    = "kubernetes.io/tls"
	keyCert       = "tls.crt"
	keyKey        = "tls.key"
	keyCA         = "ca.crt"
	labelManaged  = "certctl-managed"
	annotateOwner = "certctl-target"
)

// secrets is a namespace as a target: each place is a Secret.
//
//	get ─► ours? ─► note how it was ─► create, or update what was got ─► probe ─► forget the note
//	         │                                    │                       │
//	         └── refused: nothing has changed     └── conflict: once more └─► put back what was, probe
type secrets struct {
	name     string
	settings kubernetesSettings
	env      target.Env
	state    string // prefix of this namespace's files
	api      *kube.Client
	probe    target.Prober
	mu       sync.Mutex
}

var _ target.Opened = (*secrets)(nil)

// lock excludes others of this node from the namespace.
func (s *secrets) lock() (unlock func(), err error) {
	s.mu.Lock()
	release, err := target.Lock(s.state + ".lock")
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	return func() {
		release()
		s.mu.Unlock()
	}, nil
}

// secretName is the name of the Secret of a place and slot.
func secretName(place string, slot certctl.Slot) (string, error) {
	if err := certctl.CheckPlace(place); err != nil {
		return "", err
	}
	name := place
	if slot != "" && slot != certctl.SlotDefault {
		name += "-" + string(slot)
	}
	if len(name) > 253 || !subdomain.MatchString(name) {
		return "", certctl.Errorf(certctl.Invalid, "no Secret can be called %s", certctl.Clip(name, 100)).
			WithRemedy("bind the certificate to a place of lower-case letters, digits, - and .")
	}
	return name, nil
}

// ours reports whether the Secret is this target's.
func (s *secrets) ours(have *kube.Secret) bool {
	return have.Metadata.Annotations[annotateOwner] == s.name
}

// checkOwner refuses a Secret that is somebody else's.
func (s *secrets) checkOwner(have *kube.Secret) error {
	switch {
	case have == nil:
		return nil
	case have.Type != secretType:
		return certctl.Errorf(certctl.Conflict, "the Secret %s/%s is of type %s, which cannot be changed", have.Metadata.Namespace, have.Metadata.Name, have.Type).
			WithRemedy("delete it: a new one is made of type %s", secretType)
	case !s.ours(have) && !s.settings.Adopt:
		return certctl.Errorf(certctl.Conflict, "the Secret %s/%s is not this target's", have.Metadata.Namespace, have.Metadata.Name).
			WithRemedy("set adopt: true for the target to have it overwritten, or bind another place")
	}
	return nil
}

// with is the Secret as it should be. What others have put into it stays.
func (s *secrets) with(have *kube.Secret, name string, install target.Install) (*kube.Secret, error) {
	fullchain, key, err := target.PEM(install)
	if err != nil {
		return nil, err
	}
	next := &kube.Secret{Type: secretType, Metadata: kube.Metadata{Name: name, Namespace: s.settings.Namespace}}
	if have != nil {
		*next = *have
	}
	next.Data = added(next.Data, map[string][]byte{keyCert: fullchain, keyKey: key})
	if chain := install.Command.Chain; s.settings.CA && len(chain) > 0 {
		next.Data[keyCA] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1]})
	}
	next.Metadata.Labels = added(next.Metadata.Labels, map[string]string{labelManaged: "true"})
	next.Metadata.Annotations = added(next.Metadata.Annotations, map[string]string{annotateOwner: s.name})
	return next, nil
}

// added is a copy of a map with more in it.
func added[V any](to, more map[string]V) map[string]V {
	all := maps.Clone(to)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, more)
	return all
}

// same reports whether an update would change nothing.
func same(a, b *kube.Secret) bool {
	return a != nil && maps.EqualFunc(a.Data, b.Data, bytes.Equal) &&
		maps.Equal(a.Metadata.Labels, b.Metadata.Labels) && maps.Equal(a.Metadata.Annotations, b.Metadata.Annotations)
}

// leaf reads the leaf of a Secret, with the chain behind it.
func leafOf(s *kube.Secret) (facts certctl.Leaf, leaf []byte, chain certctl.Chain, err error) {
	for block, rest := pem.Decode(s.Data[keyCert]); block != nil; block, rest = pem.Decode(rest) {
		if leaf == nil {
			leaf = block.Bytes
		} else {
			chain = append(chain, block.Bytes)
		}
	}
	if leaf == nil {
		return facts, nil, nil, certctl.Errorf(certctl.Conflict, "the Secret %s holds no certificate", s.Metadata.Name)
	}
	facts, err = certctl.ParseLeaf(leaf)
	return facts, leaf, chain, err
}

// find gets the Secret of a place; NotFound when there is none.
func (s *secrets) find(ctx context.Context, place string, slot certctl.Slot) (*kube.Secret, error) {
	name, err := secretName(place, slot)
	if err != nil {
		return nil, err
	}
	return s.api.Get(ctx, name)
}

// Inspect holds a Secret against what was installed there.
func (s *secrets) Inspect(place string, slot certctl.Slot, fingerprint, spki certctl.Digest) error {
	have, err := s.find(context.Background(), place, slot)
	if certctl.ErrorCode(err) == certctl.NotFound {
		return certctl.Errorf(certctl.Conflict, "the Secret is gone")
	}
	if certctl.ErrorCode(err) == certctl.Denied {
		return certctl.Wrap(certctl.Unavailable, err, "the Secret cannot be looked at")
	}
	if err != nil {
		return err
	}
	facts, _, _, err := leafOf(have)
	if err != nil || facts.Fingerprint != fingerprint {
		return certctl.Errorf(certctl.Conflict, "%s of the Secret is not the certificate that was installed", keyCert)
	}
	pair, err := tls.X509KeyPair(have.Data[keyCert], have.Data[keyKey])
	if err != nil {
		return certctl.Errorf(certctl.Conflict, "%s and %s of the Secret do not belong together", keyCert, keyKey)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return certctl.Errorf(certctl.Conflict, "%s of the Secret cannot sign", keyKey)
	}
	if got, err := certctl.SPKIHash(signer.Public()); err != nil || got != spki {
		return certctl.Errorf(certctl.Conflict, "%s of the Secret is another key", keyKey)
	}
	return nil
}

// Read returns the leaf and the chain of a Secret.
func (s *secrets) Read(place string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error) {
	have, err := s.find(context.Background(), place, slot)
	if err != nil {
		return nil, nil, err
	}
	_, leaf, chain, err = leafOf(have)
	return leaf, chain, err
}

// Erase is a Conflict when the Secret holds the key. A Secret has no earlier
// generations; what is noted of a change that was not proven goes with its key.
func (s *secrets) Erase(place string, slot certctl.Slot, spki certctl.Digest) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	have, err := s.find(context.Background(), place, slot)
	if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
		return err
	}
	if err == nil {
		if facts, _, _, err := leafOf(have); err == nil && facts.SPKI == spki {
			return certctl.Errorf(certctl.Conflict, "the Secret %s holds this key", have.Metadata.Name)
		}
	}
	name, err := secretName(place, slot)
	if err != nil {
		return err
	}
	noted, err := s.unproven(name)
	if err != nil || noted == nil || noted.Previous == nil {
		return err
	}
	if facts, _, _, err := leafOf(noted.Previous); err == nil && facts.SPKI != spki {
		return nil
	}
	return s.proven(name)
}

// Forget ends the management of a binding. The Secret stays, unless the command
// says otherwise and it is this target's.
func (s *secrets) Forget(ctx context.Context, command certctl.ForgetCommand) error {
	if !command.Remove {
		return nil
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	have, err := s.find(ctx, command.Place, command.Slot)
	if certctl.ErrorCode(err) == certctl.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.ours(have) {
		return certctl.Errorf(certctl.Conflict, "the Secret %s is not this target's", have.Metadata.Name)
	}
	return s.api.Delete(ctx, have)
}

// Recover takes back changes that were not proven when the process died.
func (s *secrets) Recover(ctx context.Context) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	names, err := s.changed()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		if err := s.takeBack(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
