package remote_test

import "testing"

// object is one of JSON.
type object = map[string]any

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
