//go:build !faults

package main

import (
	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
)

// Points at which the process can be told to end exist only in builds with the
// tag "faults".

func knownVariables() []string { return nil }

func committed(certctl.Effects) {}

// acting is the store as what acts on it sees it.
func (s *server) acting() *store.Store { return s.store }
