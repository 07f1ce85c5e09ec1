//go:build !linux

package target

import (
	"io"
	"os/exec"
)

func trialCommand(trial) (*exec.Cmd, io.Reader, error) { return nil, nil, errNoNamespace }
