package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl/certctl"
)

// Members of the file, in this order.
const (
	memberManifest = "manifest.json"
	memberDump     = "database.dump"
)

// maxManifest bounds what is read of a manifest.
const maxManifest = 1 << 20

// pack writes the file at path: all of it or nothing, and for its owner only.
func pack(path string, m Manifest, dump string) error {
	encoded, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the manifest cannot be encoded")
	}
	temporary := path + ".new"
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		err = write(out, encoded, m.TakenAt, dump)
		if err == nil {
			err = out.Sync()
		}
		err = errors.Join(err, out.Close())
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(temporary) // what is left of the attempt
		return certctl.Wrap(certctl.Unavailable, err, "the backup cannot be written to %s", path)
	}
	return nil
}

// syncFolder makes a rename survive a power cut.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func write(out io.Writer, manifest []byte, at time.Time, dump string) error {
	file, err := os.Open(dump)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	if err := archive.WriteHeader(&tar.Header{Name: memberManifest, Mode: 0o600, Size: int64(len(manifest)), ModTime: at}); err != nil {
		return err
	}
	if _, err := archive.Write(manifest); err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: memberDump, Mode: 0o600, Size: info.Size(), ModTime: at}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, file); err != nil {
		return err
	}
	return archive.Close()
}

// unpack reads a file, writes its dump to dir, and proves that this is the dump
// that the manifest speaks of.
func unpack(path, dir string) (m Manifest, dump string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return m, "", certctl.Wrap(certctl.Invalid, err, "the backup cannot be read")
	}
	defer file.Close()
	archive := tar.NewReader(file)
	if err := member(archive, path, memberManifest); err != nil {
		return m, "", err
	}
	text, err := io.ReadAll(io.LimitReader(archive, maxManifest))
	if err != nil {
		return m, "", certctl.Wrap(certctl.Invalid, err, "the manifest of %s cannot be read", path)
	}
	if m, err = readManifest(text); err != nil {
		return m, "", err
	}
	if err := member(archive, path, memberDump); err != nil {
		return m, "", err
	}
	dump = filepath.Join(dir, memberDump)
	sum, size, err := extract(archive, dump)
	if err == nil && (sum != m.DumpSHA256 || size != m.DumpSize) {
		err = certctl.Errorf(certctl.Invalid, "%s is damaged: its dump is not the one that its manifest speaks of", path).
			WithRemedy("use another copy of this backup, or another backup")
	}
	return m, dump, err
}

func member(archive *tar.Reader, path, name string) error {
	header, err := archive.Next()
	if err != nil || header.Name != name {
		return certctl.Wrap(certctl.Invalid, err, "%s is no backup of certctl, or was cut off: it has no %s", path, name)
	}
	return nil
}

func extract(from io.Reader, path string) (sum certctl.Digest, size int64, err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return sum, 0, certctl.Wrap(certctl.Unavailable, err, "the dump cannot be unpacked")
	}
	hash := sha256.New()
	size, err = io.Copy(io.MultiWriter(out, hash), from)
	if err = errors.Join(err, out.Close()); err != nil {
		return sum, size, certctl.Wrap(certctl.Invalid, err, "the backup is damaged, or there is no room to unpack it in %s", filepath.Dir(path))
	}
	return certctl.Digest(hash.Sum(nil)), size, nil
}

// sumOf is the checksum of a file that was just written.
func sumOf(path string) (sum certctl.Digest, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return sum, 0, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err = io.Copy(hash, file)
	return certctl.Digest(hash.Sum(nil)), size, err
}
