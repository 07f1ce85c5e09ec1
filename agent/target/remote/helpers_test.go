//go:build daemons || kubernetes

package remote_test

import "testing"

// anything is the policy of a node whose owner allows all.
type anything struct{}

func (anything) AllowDirectory(string) error { return nil }
func (anything) AllowConfig(string) error    { return nil }
func (anything) AllowCommand([]string) error { return nil }
func (anything) AllowHost(string) error      { return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
