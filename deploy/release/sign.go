package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What a signature is made by and for; deploy/install-agent.sh and docs/release.md
// name them. One for the other is refused.
const (
	signer         = "release@certctl"
	forChecksums   = "certctl-release"
	forProvenance  = "certctl-provenance"
	checksumsFile  = "SHA256SUMS"
	provenanceFile = "provenance.json"
	signersFile    = "allowed_signers"
)

const (
	installer = "deploy/install-agent.sh"
	unset     = "\nsigner=\"\"\nversion=\"\"\n"
	told      = "\nsigner=%q\nversion=%q\n"
)

// others copies what is not built: the files named, and the installer, which learns
// its version and whose signature to trust.
func (r *release) others() error {
	for _, file := range r.extra {
		if err := copyFile(file, filepath.Join(r.out, filepath.Base(file)), 0o644); err != nil {
			return err
		}
	}
	public, err := r.public()
	if err != nil {
		return err
	}
	script, err := os.ReadFile(installer)
	if err != nil {
		return err
	}
	if bytes.Count(script, []byte(unset)) != 1 {
		return fmt.Errorf("%s has no lines %q", installer, unset)
	}
	script = bytes.Replace(script, []byte(unset), fmt.Appendf(nil, told, public, r.version), 1)
	if err := os.WriteFile(filepath.Join(r.out, filepath.Base(installer)), script, 0o755); err != nil {
		return err
	}
	line := fmt.Sprintf("%s namespaces=%q %s\n", signer, forChecksums+","+forProvenance, public)
	return os.WriteFile(filepath.Join(r.out, signersFile), []byte(line), 0o644)
}

// public is the key that verifies, without its comment. Where the private one is in
// an agent, --key names the public one.
func (r *release) public() (string, error) {
	path := strings.TrimSuffix(r.key, ".pub") + ".pub"
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return "", fmt.Errorf("%s is no public key of OpenSSH", path)
	}
	return fields[0] + " " + fields[1], nil
}

// summed is a file of the release with its sum.
type summed struct{ name, sha256 string }

// sums are those of all files there are, by name. allowed_signers is not among
// them: who trusts a key must have it from elsewhere.
func (r *release) sums() (out []summed, err error) {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if entry.Name() == signersFile {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, summed{entry.Name(), sum(content)})
	}
	return out, nil
}

// checksums writes them as sha256sum does.
func (r *release) checksums() error {
	sums, err := r.sums()
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, of := range sums {
		fmt.Fprintf(&list, "%s  %s\n", of.sha256, of.name)
	}
	return os.WriteFile(filepath.Join(r.out, checksumsFile), list.Bytes(), 0o644)
}

func (r *release) sign(ctx context.Context, file, purpose string) error {
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-q", "-f", r.key, "-n", purpose, filepath.Join(r.out, file))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ssh-keygen does not sign %s with %s: %w", file, r.key, err)
	}
	return nil
}

func sum(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func copyFile(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, mode)
}
