package certctl_test

import (
	"errors"

	"github.com/certctl/certctl"
)

func asError(err error, target **certctl.Error) bool { return errors.As(err, target) }
