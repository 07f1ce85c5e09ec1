package agent

import (
	"time"

	"github.com/certctl/certctl"
)

// verify checks that a command is meant for this agent and was made by one who
// may command it. Nothing of a command's body is read before.
func (a *Agent) verify(s certctl.Statement) error {
	if s.Domain != certctl.DomainCommand {
		return certctl.Errorf(certctl.Denied, "this is not a command")
	}
	if s.Installation != a.id.Installation {
		return certctl.Errorf(certctl.Denied, "this command is of another installation")
	}
	if s.Agent != a.id.Agent {
		return certctl.Errorf(certctl.Denied, "this command is for another agent")
	}
	return a.trust.VerifyCommand(s)
}

// decode reads a verified command of one of the kinds that make work.
func (a *Agent) decode(s certctl.Statement) (job, error) {
	j := job{statement: s}
	switch s.Kind {
	case certctl.CommandMakeKey:
		j.key = new(certctl.KeyCommand)
		if err := s.Decode(j.key); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.key.Order, j.key.Order, j.key.NotAfter)
	case certctl.CommandInstall:
		j.install = new(certctl.InstallCommand)
		if err := s.Decode(j.install); err != nil {
			return j, err
		}
		if err := checkInstall(j.install); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.install.Deployment, j.install.Target, j.install.NotAfter)
	case certctl.CommandForget:
		j.forget = new(certctl.ForgetCommand)
		if err := s.Decode(j.forget); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.forget.Binding, j.forget.Target, time.Time{})
	case certctl.CommandShare:
		j.share = new(certctl.ShareCommand)
		if err := s.Decode(j.share); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.share.Holder, j.share.Holder, j.share.NotAfter)
	case certctl.CommandErase:
		j.erase = new(certctl.EraseCommand)
		if err := s.Decode(j.erase); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.erase.Erasure, j.erase.Erasure, j.erase.NotAfter)
	case certctl.CommandTest:
		j.test = new(certctl.TestCommand)
		if err := s.Decode(j.test); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.test.Test, j.test.Target, j.test.NotAfter)
	case certctl.CommandProve:
		j.prove = new(certctl.ProveCommand)
		if err := s.Decode(j.prove); err != nil {
			return j, err
		}
		return j, a.checkAbout(s, j.prove.Set, j.prove.Set, j.prove.NotAfter)
	}
	return j, certctl.Errorf(certctl.Invalid, "this agent does not know commands of kind %q", certctl.Clip(s.Kind, 40)).
		WithRemedy("update the agent of this node")
}

// codeExpired marks commands whose time has passed: unlike forged ones they are
// answered, since the cause may be this node's clock.
const codeExpired = certctl.Gone

// checkAbout compares what the signature says the command is about with its
// body, and its end (zero: none) with the clock.
func (a *Agent) checkAbout(s certctl.Statement, object, target certctl.ID, notAfter time.Time) error {
	if object.IsZero() || object != s.Object {
		return certctl.Errorf(certctl.Denied, "this command's body is about another object")
	}
	if target.IsZero() {
		return certctl.Errorf(certctl.Invalid, "this command names no target")
	}
	if s.Kind != certctl.CommandForget && notAfter.IsZero() {
		return certctl.Errorf(certctl.Invalid, "this command has no end")
	}
	if !notAfter.IsZero() && a.now().After(notAfter) {
		return certctl.Errorf(codeExpired, "this command ended at %s, and this node's clock says %s",
			notAfter.UTC().Format(time.RFC3339), a.now().UTC().Format(time.RFC3339)).
			WithRemedy("if the clock is wrong, set it; else nothing is to be done: the server sends a new command")
	}
	return nil
}

func checkInstall(c *certctl.InstallCommand) error {
	if c.Binding.IsZero() || c.Version.IsZero() {
		return certctl.Errorf(certctl.Invalid, "this command names no binding or no version")
	}
	if certctl.DigestOf(c.Leaf) != c.Fingerprint {
		return certctl.Errorf(certctl.Denied, "this command's leaf has another fingerprint than it says")
	}
	return certctl.CheckPlace(c.Place)
}
