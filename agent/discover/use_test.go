package discover

import (
	"slices"
	"testing"
)

// The certificates of one listener share its addresses: one that is served at more
// says nothing of the others.
func TestMergedListenersAreTheirOwn(t *testing.T) {
	t.Parallel()
	f := &found{}
	listen := append(make([]string, 0, 4), "127.0.0.1:443", "127.0.0.1:444", "127.0.0.1:445")
	for _, name := range []string{"a", "b"} {
		f.add(use{cert: name, key: name, listen: listen})
	}
	f.add(use{cert: "a", key: "a", listen: []string{"127.0.0.1:1"}})
	if want := []string{"127.0.0.1:443", "127.0.0.1:444", "127.0.0.1:445"}; !slices.Equal(f.uses[1].listen, want) || !slices.Equal(listen, want) {
		t.Errorf("b listens at %v, and what was given is %v", f.uses[1].listen, listen)
	}
	if got := f.uses[0].listen; len(got) != 4 || !slices.Contains(got, "127.0.0.1:1") {
		t.Errorf("a listens at %v", got)
	}
}
