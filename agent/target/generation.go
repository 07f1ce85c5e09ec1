package target

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
)

// Names of files in every generation.
const (
	fileFullchain = "fullchain.pem"
	fileCert      = "cert.pem"
	fileChain     = "chain.pem"
	fileKey       = "privkey.pem"
	fileBundle    = "bundle.pem" // chain and key in one file, where a kind wants it

	linkCurrent   = "current"
	dirGeneration = "generations"
	fileSwitching = "switching"
	suffixNew     = ".new"
)

// layout says where generations lie and who may read them.
type layout struct {
	directory string
	uid, gid  int // -1: the agent's own
	keyMode   fs.FileMode
	links     string // folder with a link <place>.pem to each place's bundle; "": none
}

// file is one file of a generation.
type file struct {
	name    string
	content []byte
	secret  bool
}

// material is what an installation is made of.
type material struct {
	install Install
	place   place
	leaf    *x509.Certificate
}

// place is one folder of a target: a binding's place and slot.
type place struct {
	layout layout
	path   string
}

// placeOf returns the folder of a place and slot. The separator cannot stand in
// a place's name.
func (l layout) placeOf(name string, slot certctl.Slot) place {
	folder := name
	if slot != "" && slot != certctl.SlotDefault {
		folder += "~" + string(slot)
	}
	return place{layout: l, path: filepath.Join(l.directory, folder)}
}

// current is the path that configurations name.
func (p place) current() string { return filepath.Join(p.path, linkCurrent) }

func (p place) generation(n int) string {
	return filepath.Join(p.path, dirGeneration, strconv.Itoa(n))
}

// number returns the current generation, 0 when there is none.
func (p place) number() (int, error) {
	target, err := os.Readlink(p.current())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(filepath.Base(target))
}

// newest returns the highest number of any generation, also of unfinished ones.
func (p place) newest() (int, error) {
	entries, err := os.ReadDir(filepath.Join(p.path, dirGeneration))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	highest := 0
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil {
			highest = max(highest, n)
		}
	}
	return highest, err
}

// leaf reads the leaf of a generation.
func (p place) leaf(n int) (certctl.Leaf, error) {
	content, err := os.ReadFile(filepath.Join(p.generation(n), fileCert))
	if err != nil {
		return certctl.Leaf{}, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return certctl.Leaf{}, certctl.Errorf(certctl.Conflict, "%s holds no certificate", filepath.Join(p.generation(n), fileCert))
	}
	return certctl.ParseLeaf(block.Bytes)
}

// fingerprint is of the leaf in a generation; zero when it cannot be read.
func (p place) fingerprint(n int) certctl.Digest {
	facts, err := p.leaf(n)
	if err != nil {
		return certctl.Digest{}
	}
	return facts.Fingerprint
}

// write makes a generation: complete and synced when it returns.
func (p place) write(n int, files []file) error {
	dir := p.generation(n)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temporary := dir + suffixNew
	if err := errors.Join(os.RemoveAll(temporary), os.Mkdir(temporary, 0o700)); err != nil {
		return err
	}
	for _, f := range files {
		if err := p.writeFile(filepath.Join(temporary, f.name), f); err != nil {
			return errors.Join(err, os.RemoveAll(temporary))
		}
	}
	mode := fs.FileMode(0o700)
	if p.layout.keyMode&0o077 != 0 || p.layout.uid >= 0 || p.layout.gid >= 0 {
		mode = 0o750
	}
	err := errors.Join(p.own(temporary), os.Chmod(temporary, mode), syncDir(temporary))
	if err == nil {
		err = os.Rename(temporary, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	return syncDir(filepath.Dir(dir))
}

// consistsOf reports whether a generation consists of these very files, readable by
// those who should.
func (p place) consistsOf(n int, files []file) bool {
	for _, f := range files {
		path := filepath.Join(p.generation(n), f.name)
		content, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(content, f.content) || p.checkMode(path, f) != nil {
			return false
		}
	}
	return true
}

func (l layout) mode(f file) fs.FileMode {
	if f.secret {
		return l.keyMode
	}
	return 0o644
}

// checkMode refuses a file that more may read or write than were meant to.
func (p place) checkMode(path string, f file) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if more := info.Mode().Perm() &^ p.layout.mode(f); more != 0 {
		return certctl.Errorf(certctl.Conflict, "%s has the mode %#o instead of %#o", f.name, info.Mode().Perm(), p.layout.mode(f))
	}
	return nil
}

func (p place) writeFile(path string, f file) error {
	mode := p.layout.mode(f)
	// Made for the owner only, and opened to others when it is theirs.
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.content)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close(), p.own(path), os.Chmod(path, mode))
}

func (p place) own(path string) error {
	if p.layout.uid < 0 && p.layout.gid < 0 {
		return nil
	}
	return os.Chown(path, p.layout.uid, p.layout.gid)
}

// switchTo makes a generation the current one; 0 removes the link.
func (p place) switchTo(n int) error {
	if n == 0 {
		if p.layout.links != "" {
			if err := unlink(p.link()); err != nil {
				return err
			}
		}
		return unlink(p.current())
	}
	if err := link(filepath.Join(dirGeneration, strconv.Itoa(n)), p.current()); err != nil || p.layout.links == "" {
		return err
	}
	bundle := filepath.Join(p.current(), fileBundle)
	if to, err := os.Readlink(p.link()); err == nil && to == bundle {
		return nil
	}
	return errors.Join(os.MkdirAll(p.layout.links, 0o755), link(bundle, p.link()))
}

// link is the place's link in the folder of links.
func (p place) link() string { return filepath.Join(p.layout.links, filepath.Base(p.path)+".pem") }

// link makes a symbolic link, or another one of it, by one rename.
func link(to, path string) error {
	temporary := path + suffixNew
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return syncDir(filepath.Dir(path))
}

func unlink(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

// begin notes, before a switch, the generation to go back to if nobody comes
// back to prove it.
func (p place) begin(previous int) error {
	path := filepath.Join(p.path, fileSwitching)
	out, err := os.OpenFile(path+suffixNew, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.WriteString(strconv.Itoa(previous))
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(path+suffixNew, path), syncDir(p.path))
}

// unproven returns the generation to go back to, and whether a switch is not
// proven.
func (p place) unproven() (previous int, is bool) {
	content, err := os.ReadFile(filepath.Join(p.path, fileSwitching))
	if err != nil {
		return 0, false
	}
	previous, err = strconv.Atoi(strings.TrimSpace(string(content)))
	return previous, err == nil
}

// proven ends a switch.
func (p place) proven() error {
	if err := os.Remove(filepath.Join(p.path, fileSwitching)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(p.path)
}

// prune removes all generations but the current one and keep, and whatever was
// left half written.
func (p place) prune(keep int) error {
	current, err := p.number()
	if err != nil {
		return err
	}
	dir := filepath.Join(p.path, dirGeneration)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		n, parseErr := strconv.Atoi(entry.Name())
		if parseErr == nil && (n == current || n == keep) {
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	leftover := os.Remove(p.current() + suffixNew)
	if leftover != nil && !errors.Is(leftover, fs.ErrNotExist) {
		err = errors.Join(err, leftover)
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// pemFiles are the files of every generation.
func pemFiles(c certctl.InstallCommand, key crypto.Signer) ([]file, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	full := c.Chain.PEM(c.Leaf)
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf})
	return []file{
		{name: fileFullchain, content: full},
		{name: fileCert, content: leaf},
		{name: fileChain, content: full[len(leaf):]},
		{name: fileKey, content: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), secret: true},
	}, nil
}

// removeGeneration removes one that is not the current.
func removeGeneration(p place, n int) error { return os.RemoveAll(p.generation(n)) }
