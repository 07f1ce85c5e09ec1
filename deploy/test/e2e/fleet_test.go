package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// fleet is a local.Fleet that ends with its test.
type fleet struct {
	*local.Fleet
	t *testing.T
}

// startFleet starts database, bus and two servers.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t)
	f.must(f.Start(t.Context(), 2))
	return f
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, Fleet: &local.Fleet{Installation: &local.Installation{Binaries: binaries, Dir: folder(t)}}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := f.Stack.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) port() string {
	f.t.Helper()
	port, err := local.FreePort()
	f.must(err)
	return local.Loopback(port)
}

func (f *fleet) addAgent(name string) *local.Agent {
	f.t.Helper()
	agent, err := f.AddAgent(f.t.Context(), name)
	f.must(err)
	return agent
}
