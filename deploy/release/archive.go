package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// member is a file of an archive.
type member struct {
	name, from string
	mode       int64
}

// program builds one and writes its archive and the list of what is linked into it.
func (r *release) program(ctx context.Context, program string, on platform) error {
	dir, err := os.MkdirTemp("", "certctl-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder of temporary files
	binary := filepath.Join(dir, program+on.suffix())
	if err := build(ctx, program, r.version, binary, on); err != nil {
		return err
	}
	name := filepath.Join(r.out, strings.Join([]string{program, r.version, on.os, on.arch}, "_"))
	sbom, err := billOfMaterials(binary, program, "v"+r.version)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".cdx.json", sbom, 0o644); err != nil {
		return err
	}
	members := []member{{program + on.suffix(), binary, 0o755}, {"LICENSE", "LICENSE", 0o644}}
	for file, system := range map[string]string{
		"deploy/systemd/" + program + ".service": "linux",
		"deploy/launchd/" + program + ".plist":   "darwin",
	} {
		if _, err := os.Stat(file); err == nil && on.os == system {
			members = append(members, member{filepath.Base(file), file, 0o644})
		}
	}
	return archive(name+".tar.gz", members, r.time)
}

// build makes a static program. The version is the linker's; what Go knows of the
// repository is left out, since an unpacked source has none.
func build(ctx context.Context, program, version, into string, on platform) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+version, "-o", into, "./cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+on.os, "GOARCH="+on.arch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// archive writes files in the order given, all of root's and of one time.
func archive(path string, members []member, at time.Time) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	packed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(packed)
	for _, m := range members {
		content, err := os.ReadFile(m.from)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		header := &tar.Header{Name: m.name, Mode: m.mode, Size: int64(len(content)), ModTime: at, Typeflag: tar.TypeReg, Uname: "root", Gname: "root", Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return errors.Join(err, file.Close())
		}
		if _, err := w.Write(content); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return errors.Join(w.Close(), packed.Close(), file.Close())
}

// commitTime is SOURCE_DATE_EPOCH, or that of the commit which is built.
func commitTime(ctx context.Context) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the commit's time is not known (%w): set SOURCE_DATE_EPOCH", err)
		}
		text = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
