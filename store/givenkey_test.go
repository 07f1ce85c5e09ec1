package store_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
)

func TestGivenKeyReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	s := empty(t)
	if _, err := s.Bootstrap(t.Context(), store.BootstrapRequest{}); err != nil {
		t.Fatal(err)
	}
	first, second := certctl.Digest{1}, certctl.Digest{2}
	valid := func(key certctl.Digest) bool {
		t.Helper()
		p, err := s.AuthenticateKey(t.Context(), key)
		return err == nil && p.Name == "admin" && certctl.Allowed(p, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectPrincipal})
	}
	give := func(key certctl.Digest, want bool) {
		t.Helper()
		if changed, err := s.GiveAdminKey(t.Context(), key); err != nil || changed != want {
			t.Fatalf("changed %v, %v", changed, err)
		}
	}
	give(first, true)
	give(first, false)
	if !valid(first) || valid(second) {
		t.Error("the first key is not the one that is valid")
	}
	give(second, true)
	if valid(first) || !valid(second) {
		t.Error("the second key has not replaced the first")
	}
	give(first, true) // a chart that is rolled back
	if !valid(first) || valid(second) {
		t.Error("the first key was not given again")
	}
	if broken, err := s.CheckIntegrity(t.Context()); err != nil || len(broken) != 0 {
		t.Errorf("broken %v, %v", broken, err)
	}
}

// A key that somebody has revoked is one that somebody else may know.
func TestGivenKeyStaysRevoked(t *testing.T) {
	t.Parallel()
	s := empty(t)
	if _, err := s.Bootstrap(t.Context(), store.BootstrapRequest{AdminKey: certctl.Digest{9}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GiveAdminKey(t.Context(), certctl.Digest{9}); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a key of this installation: %v", err)
	}
	if _, err := s.GiveAdminKey(t.Context(), certctl.Digest{1}); err != nil {
		t.Fatal(err)
	}
	actor := certctl.SystemActor("test")
	keys, err := s.ListAPIKeys(t.Context(), actor, "admin", certctl.NamedFilter{})
	if err != nil || len(keys.Items) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, key := range keys.Items {
		if key.Name != "given" {
			continue
		}
		if err := s.RevokeAPIKey(t.Context(), actor, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GiveAdminKey(t.Context(), certctl.Digest{1}); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a revoked key: %v", err)
	}
}

func TestGivenKeyByManyReplicas(t *testing.T) {
	t.Parallel()
	s := empty(t)
	if _, err := s.Bootstrap(t.Context(), store.BootstrapRequest{}); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var changes atomic.Int64
	for range 6 {
		wait.Go(func() {
			changed, err := s.GiveAdminKey(t.Context(), certctl.Digest{1})
			if err != nil {
				t.Error(err)
			}
			if changed {
				changes.Add(1)
			}
		})
	}
	wait.Wait()
	if changes.Load() != 1 {
		t.Errorf("%d changes", changes.Load())
	}
}
