package challenge

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/certctl/certctl"
)

// folder is where CAs look, below a web server's root.
const folder = ".well-known/acme-challenge"

// writeFiles puts the proofs of http-01 into every webroot. The caller holds mu.
func (k *Keeper) writeFiles(proofs []certctl.Proof) error {
	for _, p := range proofs {
		if p.Type != certctl.ProofHTTP {
			continue
		}
		for _, root := range k.places.Webroots {
			if err := writeFile(root, p); err != nil {
				return certctl.Wrap(certctl.Unavailable, err, "the proof cannot be written below %s", root).
					WithRemedy("challenge_webroots of the node's policy must name folders that are there and that the agent may write to")
			}
		}
	}
	return nil
}

// removeFiles removes the proofs that no set holds any more. The caller holds mu.
func (k *Keeper) removeFiles(proofs []certctl.Proof, webroots []string) error {
	var failed error
	for _, p := range proofs {
		if _, held := k.answerHeld(p.Token); held || p.Type != certctl.ProofHTTP || p.Check() != nil {
			continue
		}
		for _, root := range webroots {
			if err := removeFile(root, p.Token); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, certctl.Wrap(certctl.Unavailable, err, "the proof below %s cannot be removed", root))
			}
		}
	}
	return failed
}

// aside is where a proof is written before it gets its name: nobody asks for it,
// and whoever removes the proof knows it.
func aside(token string) string { return path.Join(folder, "."+token+".certctl") }

// writeFile writes one proof, readable for the web server. The folder's own paths
// may be links within the root, and never lead out of it.
func writeFile(webroot string, p certctl.Proof) (err error) {
	root, err := os.OpenRoot(webroot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // a web server reads it
		return err
	}
	temporary := aside(p.Token)
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(p.Answer)
	if err = errors.Join(err, file.Chmod(0o644), file.Close()); err == nil { // whatever the umask is
		err = root.Rename(temporary, path.Join(folder, p.Token))
	}
	if err != nil {
		return errors.Join(err, root.Remove(temporary))
	}
	return nil
}

// removeFile removes what writeFile has left, finished or not.
func removeFile(webroot, token string) (err error) {
	root, err := os.OpenRoot(webroot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, name := range []string{path.Join(folder, token), aside(token)} {
		if removed := root.Remove(name); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}
