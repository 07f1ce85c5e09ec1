//go:build !linux

package target

import "os/exec"

// StagedExec does nothing where there are no mount namespaces.
func StagedExec() {}

func stagedCommand([]mount, []string) (*exec.Cmd, error) { return nil, errNoNamespace }

func refused(error) bool { return false }
