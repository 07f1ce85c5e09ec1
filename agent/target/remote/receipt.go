package remote

import (
	"errors"
	"strings"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

const maxMessage = 2048 // of a receipt

// installed is the receipt of what has been taken, and of what was seen of it.
func installed(r certctl.Receipt, install target.Install, served []certctl.Served) certctl.Receipt {
	r.Fingerprint, r.Outcome, r.VerifiedBy, r.Served = install.Command.Fingerprint, certctl.OutcomeVerified, "probe", served
	if len(served) == 0 {
		r.Outcome, r.VerifiedBy = certctl.OutcomeInstalled, "loaded"
	}
	return r
}

// unseen is the receipt of what has been taken, and whose leaf not every listener
// lets itself be asked for.
func unseen(r certctl.Receipt, install target.Install, why error) certctl.Receipt {
	r = installed(r, install, nil)
	r.Message = target.UnseenMessage(why)
	return r
}

// failure is the receipt of a command after which things are as they were: there is
// the leaf that is there, if that is known and there is one.
func failure(r certctl.Receipt, there certctl.Digest, code string, cause error) certctl.Receipt {
	r.Outcome, r.Code = certctl.OutcomeFailed, code
	r.Message = certctl.Clip(strings.ToValidUTF8(cause.Error(), "?"), maxMessage)
	if !there.IsZero() {
		r.Outcome, r.Fingerprint = certctl.OutcomeRolledBack, there
	}
	var ours *certctl.Error
	if errors.As(cause, &ours) {
		r.Remedy = ours.Remedy
	}
	return r
}
