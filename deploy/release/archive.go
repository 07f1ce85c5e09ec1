package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
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
	if err := r.build(ctx, program, binary, on); err != nil {
		return err
	}
	name := filepath.Join(r.out, strings.Join([]string{program, r.version, on.os, on.arch}, "_"))
	sbom, err := billOfMaterials(binary, program, "v"+r.version)
	if err != nil {
		return err
	}
	r.linked = append(r.linked, sbom.Components...)
	if err := writeJSON(name+".cdx.json", sbom); err != nil {
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
	return archive(name+".tar.gz", members, r.source.time)
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
