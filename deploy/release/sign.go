package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What a signature is made by and for; deploy/install-agent.sh and docs/packages.md
// name both.
const (
	signer    = "release@certctl"
	namespace = "certctl-release"
)

const (
	checksums = "SHA256SUMS"
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
	line := fmt.Sprintf("%s namespaces=%q %s\n", signer, namespace, public)
	return os.WriteFile(filepath.Join(r.out, "allowed_signers"), []byte(line), 0o644)
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

// checksums writes those of all files, as sha256sum does. allowed_signers is not
// among them: who trusts a key must have it from elsewhere.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, entry := range entries {
		if entry.Name() == "allowed_signers" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(r.out, checksums), list.Bytes(), 0o644)
}

func (r *release) sign(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-q", "-f", r.key, "-n", namespace, filepath.Join(r.out, checksums))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	return cmd.Run()
}

func copyFile(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, mode)
}
