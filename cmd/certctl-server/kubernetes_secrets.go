package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote/kube"
	"github.com/certctl/certctl/store"
)

// nodesAnnotation says for which servers the configuration of the bus was made.
const nodesAnnotation = "certctl.io/bus-nodes"

// ensure returns a Secret, and makes it where it is missing and nobody else is to.
func (s *kubernetesSetup) ensure(ctx context.Context, name string, fill func() (*kube.Secret, error)) (*kube.Secret, error) {
	held, err := s.client.Get(ctx, name)
	if certctl.ErrorCode(err) != certctl.NotFound {
		return held, err
	}
	if slices.Contains(s.command.Given, name) {
		return s.waitFor(ctx, name)
	}
	made, err := fill()
	if err != nil {
		return made, err
	}
	made.Metadata.Name, made.Metadata.Labels = name, s.command.Label
	held, err = s.client.Create(ctx, made)
	if certctl.ErrorCode(err) == certctl.Conflict { // another run was faster
		return s.client.Get(ctx, name)
	}
	if err == nil {
		s.log.Info().Str("secret", name).Msg("made")
	}
	return held, err
}

// waitFor returns a Secret that others make.
func (s *kubernetesSetup) waitFor(ctx context.Context, name string) (*kube.Secret, error) {
	for {
		held, err := s.client.Get(ctx, name)
		if certctl.ErrorCode(err) != certctl.NotFound {
			return held, err
		}
		s.log.Info().Str("secret", name).Msg("waiting for the Secret")
		if !s.pause(ctx) {
			return held, certctl.Errorf(certctl.NotFound, "there is no Secret %s within %s", name, s.command.Wait).
				WithRemedy("the chart's values say that it exists: make it, or take it out of them")
		}
	}
}

// makeTLS makes the certificate of API and bus.
func (s *kubernetesSetup) makeTLS() (*kube.Secret, error) {
	dir, err := os.MkdirTemp(s.config.DataDir, "tls-")
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "no folder can be made in %s", s.config.DataDir)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the pod's own memory
	if err := setupTLS(dir, s.command.Host); err != nil {
		return nil, err
	}
	data, err := filesIn(dir)
	if err != nil {
		return nil, err
	}
	data[fileRoot] = data[fileTLSCert]
	return &kube.Secret{Type: "kubernetes.io/tls", Data: data}, nil
}

// rootOf is the root that agents pin: ca.crt, or what the chain ends with.
func rootOf(secret *kube.Secret) ([]byte, error) {
	for _, file := range []string{fileRoot, fileTLSCert} {
		var last *pem.Block
		for block, rest := pem.Decode(secret.Data[file]); block != nil; block, rest = pem.Decode(rest) {
			last = block
		}
		if last == nil {
			continue
		}
		root, err := x509.ParseCertificate(last.Bytes)
		if err == nil && root.CheckSignatureFrom(root) == nil {
			return pem.EncodeToMemory(last), nil
		}
	}
	return nil, certctl.Errorf(certctl.Invalid, "the Secret %s has no root certificate: agents need one to pin", secret.Metadata.Name).
		WithRemedy("put it into its ca.crt, or at the end of its tls.crt")
}

// bus makes configuration and credentials of the bus, anew when its servers are
// others than they were, and keeps what its clients trust complete.
func (s *kubernetesSetup) bus(ctx context.Context, trusted []byte) error {
	if s.command.BusSecret == "" {
		return nil
	}
	nodes := strings.Join(s.command.Node, " ")
	fill := func() (*kube.Secret, error) {
		data, err := s.busFiles(ctx)
		if err != nil {
			return nil, err
		}
		data[fileRoot] = trusted
		return &kube.Secret{Metadata: kube.Metadata{Annotations: map[string]string{nodesAnnotation: nodes}}, Data: data}, nil
	}
	held, err := s.ensure(ctx, s.command.BusSecret, fill)
	if err != nil || slices.Contains(s.command.Given, s.command.BusSecret) {
		return err
	}
	changed := false
	if held.Metadata.Annotations[nodesAnnotation] != nodes {
		made, err := fill()
		if err != nil {
			return err
		}
		made.Data[fileRoot] = held.Data[fileRoot]
		held.Data, held.Metadata.Annotations, changed = made.Data, made.Metadata.Annotations, true
	}
	for block, rest := pem.Decode(trusted); block != nil; block, rest = pem.Decode(rest) {
		if one := pem.EncodeToMemory(block); !bytes.Contains(held.Data[fileRoot], one) {
			held.Data[fileRoot], changed = append(held.Data[fileRoot], one...), true
		}
	}
	if changed {
		return s.update(ctx, held)
	}
	return nil
}

func (s *kubernetesSetup) update(ctx context.Context, secret *kube.Secret) error {
	_, err := s.client.Update(ctx, secret)
	if err == nil {
		s.log.Info().Str("secret", secret.Metadata.Name).Msg("changed")
	}
	return err
}

// busFiles is what bus init writes, by the name of the file.
func (s *kubernetesSetup) busFiles(ctx context.Context) (map[string][]byte, error) {
	dir, err := os.MkdirTemp(s.config.DataDir, "bus-")
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "no folder can be made in %s", s.config.DataDir)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the pod's own memory
	_, err = busWrite(ctx, s.config, busInitCommand{
		Dir: dir, Node: s.command.Node, StoreDir: s.command.StoreDir, CertFile: filepath.Join(s.command.TLSDir, fileTLSCert),
		KeyFile: filepath.Join(s.command.TLSDir, fileTLSKey), TrustCA: filepath.Join(s.command.TLSDir, fileTLSCert),
	}, s.log)
	if err != nil {
		return nil, err
	}
	data, err := filesIn(dir)
	if err != nil {
		return nil, err
	}
	credentials, err := filesIn(filepath.Join(dir, "credentials"))
	maps.Copy(data, credentials)
	return data, err
}

// filesIn is the content of a folder's files by their names.
func filesIn(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "what was made cannot be read")
	}
	data := map[string][]byte{}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		if data[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "what was made cannot be read")
		}
	}
	return data, nil
}

// kubernetesFleet is that of the agents that the chart brings.
const kubernetesFleet = "kubernetes"

// agent makes a join token where there is none with which a machine could still
// enrol. A token may replace an agent of its fleet that is off line: a pod without
// a lasting volume comes back with new keys under the name of its node.
func (s *kubernetesSetup) agent(ctx context.Context, root []byte) error {
	if s.command.AgentSecret == "" {
		return nil
	}
	return withStore(ctx, s.config, func(st *store.Store) error {
		token := func() ([]byte, error) {
			secret, err := makeJoinToken(ctx, st, certctl.JoinToken{UsesLeft: s.command.TokenUses, Approve: true, Fleet: kubernetesFleet}, s.command.TokenLife)
			return []byte(secret), err
		}
		held, err := s.ensure(ctx, s.command.AgentSecret, func() (*kube.Secret, error) {
			text, err := token()
			return &kube.Secret{Data: map[string][]byte{fileToken: text, fileRoot: root}}, err
		})
		if err != nil || slices.Contains(s.command.Given, s.command.AgentSecret) {
			return err
		}
		hash := certctl.DigestOf(held.Data[fileToken])
		// A release without fleets may have made it.
		if n, err := st.TakeIntoFleet(ctx, hash, kubernetesFleet); err != nil {
			return err
		} else if n > 0 {
			s.log.Info().Int("agents", n).Str("fleet", kubernetesFleet).Msg("agents that joined with the Secret's token are of the fleet")
		}
		usable, err := st.JoinTokenUsable(ctx, hash)
		if err != nil || usable && bytes.Equal(held.Data[fileRoot], root) {
			return err
		}
		if held.Data == nil {
			held.Data = map[string][]byte{}
		}
		if held.Data[fileRoot] = root; !usable {
			if held.Data[fileToken], err = token(); err != nil {
				return err
			}
		}
		return s.update(ctx, held)
	})
}
