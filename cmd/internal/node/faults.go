//go:build faults

package node

import "github.com/certctl/certctl/cmd/internal/fault"

// faultHook is called at the points that package agent and its targets name.
func faultHook(environ []string) func(string) { return fault.Hook(environ) }

func knownVariables() []string { return []string{fault.Variable} }
