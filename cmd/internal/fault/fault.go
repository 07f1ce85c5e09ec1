// Package fault ends or stops a process at a named point, so that tests can
// break it exactly where it hurts. Only builds with the tag "faults" use it: what
// is released cannot be told to end itself.
package fault

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Variable says where and how:
//
//	CERTCTL_FAULT=<point>:kill[:<n>]   SIGKILL when the point is reached the n-th time
//	CERTCTL_FAULT=<point>:stop[:<n>]   SIGSTOP; it goes on when somebody continues it
//
// n is 1 unless it is given.
const Variable = "CERTCTL_FAULT"

// plan is what Variable says.
type plan struct {
	point  string
	signal syscall.Signal
	n      int64
}

// Hook returns what is to be called with each point that is reached, or nil
// where the environment names none. A value that cannot be read is a panic: a
// test that breaks nothing would pass.
func Hook(environ []string) func(point string) {
	for _, entry := range environ {
		value, found := strings.CutPrefix(entry, Variable+"=")
		if !found || value == "" {
			continue
		}
		p, ok := parse(value)
		if !ok {
			panic(Variable + "=" + value + " is not <point>:kill or <point>:stop with a number")
		}
		return p.hook(func(signal syscall.Signal) error { return syscall.Kill(os.Getpid(), signal) })
	}
	return nil
}

// hook counts and sends the signal once.
func (p plan) hook(send func(syscall.Signal) error) func(string) {
	var reached atomic.Int64
	return func(point string) {
		if point != p.point || reached.Add(1) != p.n {
			return
		}
		if err := send(p.signal); err != nil {
			panic(err)
		}
		if p.signal == syscall.SIGKILL {
			select {} // the signal is on its way
		}
	}
}

func parse(value string) (p plan, ok bool) {
	parts := strings.Split(value, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return p, false
	}
	p = plan{point: parts[0], n: 1}
	if len(parts) == 3 {
		n, err := strconv.ParseInt(parts[2], 10, 64)
		if err != nil || n < 1 {
			return p, false
		}
		p.n = n
	}
	switch parts[1] {
	case "kill":
		p.signal = syscall.SIGKILL
	case "stop":
		p.signal = syscall.SIGSTOP
	default:
		return p, false
	}
	return p, true
}
