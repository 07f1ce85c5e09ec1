package fault

import (
	"syscall"
	"testing"
)

func TestPlans(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]plan{
		"committed:kill":     {"committed", syscall.SIGKILL, 1},
		"committed:stop:3":   {"committed", syscall.SIGSTOP, 3},
		"committed":          {},
		":kill":              {},
		"committed:end":      {},
		"committed:kill:0":   {},
		"committed:kill:x":   {},
		"committed:kill:1:1": {},
	} {
		got, ok := parse(value)
		if ok != (want != plan{}) || ok && got != want {
			t.Errorf("%s: %+v, %t", value, got, ok)
		}
	}
}

func TestTheNthTimeCounts(t *testing.T) {
	t.Parallel()
	var sent []syscall.Signal
	at := plan{point: "here", signal: syscall.SIGSTOP, n: 2}.hook(func(s syscall.Signal) error {
		sent = append(sent, s)
		return nil
	})
	for n, point := range []string{"there", "here", "there", "here", "here"} {
		at(point)
		if want := n >= 3; (len(sent) == 1) != want {
			t.Fatalf("after %d points %v were sent", n+1, sent)
		}
	}
}

func TestWithoutAPlanThereIsNoHook(t *testing.T) {
	t.Parallel()
	if Hook([]string{"HOME=/", Variable + "="}) != nil {
		t.Error("there is a hook")
	}
	defer func() {
		if recover() == nil {
			t.Error("a plan that cannot be read is accepted")
		}
	}()
	Hook([]string{Variable + "=nowhere"})
}
