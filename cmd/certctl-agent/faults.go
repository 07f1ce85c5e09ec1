//go:build faults

package main

import (
	"os"
	"strings"
	"syscall"
)

const faultVariable = "CERTCTL_FAULT"

// faultHook reads CERTCTL_FAULT=<point>:kill and returns a hook by which the
// process ends itself with SIGKILL when it reaches the point.
func faultHook(environ []string) func(string) {
	for _, entry := range environ {
		value, found := strings.CutPrefix(entry, faultVariable+"=")
		point, kill := strings.CutSuffix(value, ":kill")
		if !found || !kill {
			continue
		}
		return func(reached string) {
			if reached != point {
				return
			}
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {} // the signal is on its way
		}
	}
	return nil
}

func knownVariables() []string { return []string{faultVariable} }
