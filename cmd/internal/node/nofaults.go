//go:build !faults

package node

// Fault points exist only in builds with the tag "faults".
func faultHook([]string) func(string) { return nil }

func knownVariables() []string { return nil }
