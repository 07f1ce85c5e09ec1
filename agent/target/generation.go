package target

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
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
	links     string // folder with a link to a file of each place; "": none
	linked    string // that file: fileDocument, or by default fileBundle
	other     Disk   // another host's; nil: this node's
	host      string // which other host
}

// disk is where the files are.
func (l layout) disk() Disk {
	if l.other != nil {
		return l.other
	}
	return localDisk{}
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
	layout
	path string
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

// folder is its name in the directory.
func (p place) folder() string { return filepath.Base(p.path) }

// slot is that of the place's folder.
func (p place) slot() certctl.Slot {
	if _, slot, ok := strings.Cut(filepath.Base(p.path), "~"); ok {
		return certctl.Slot(slot)
	}
	return certctl.SlotDefault
}

// current is the path that configurations name.
func (p place) current() string { return filepath.Join(p.path, linkCurrent) }

func (p place) generation(n int) string {
	return filepath.Join(p.path, dirGeneration, strconv.Itoa(n))
}

// number returns the current generation, 0 when there is none.
func (p place) number() (int, error) {
	target, err := p.disk().ReadLink(p.current())
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
	names, err := p.disk().ReadDir(filepath.Join(p.path, dirGeneration))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	highest := 0
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			highest = max(highest, n)
		}
	}
	return highest, err
}

// leaf reads the leaf of a generation.
func (p place) leaf(n int) (certctl.Leaf, error) {
	content, err := p.disk().ReadFile(filepath.Join(p.generation(n), fileCert))
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
	dir, disk := p.generation(n), p.disk()
	if err := disk.MakeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	temporary := dir + suffixNew
	if err := errors.Join(disk.RemoveAll(temporary), disk.MakeDir(temporary)); err != nil {
		return err
	}
	for _, f := range files {
		if err := p.writeFile(filepath.Join(temporary, f.name), f); err != nil {
			return errors.Join(err, disk.RemoveAll(temporary))
		}
	}
	mode := fs.FileMode(0o700)
	if p.layout.keyMode&0o077 != 0 || p.layout.uid >= 0 || p.layout.gid >= 0 {
		mode = 0o750
	}
	err := errors.Join(disk.Grant(temporary, p.uid, p.gid, mode), disk.Sync(temporary))
	if err == nil {
		err = disk.Rename(temporary, dir)
	}
	if err != nil {
		return errors.Join(err, disk.RemoveAll(temporary))
	}
	return disk.Sync(filepath.Dir(dir))
}

// consistsOf reports whether a generation consists of these very files, readable by
// those who should.
func (p place) consistsOf(n int, files []file) bool {
	for _, f := range files {
		path := filepath.Join(p.generation(n), f.name)
		content, err := p.disk().ReadFile(path)
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
	mode, err := p.disk().Mode(path)
	if err != nil {
		return err
	}
	if more := mode.Perm() &^ p.layout.mode(f); more != 0 {
		return certctl.Errorf(certctl.Conflict, "%s has the mode %#o instead of %#o", f.name, mode.Perm(), p.layout.mode(f))
	}
	return nil
}

// writeFile makes a file for its owner only, and opens it to others when it is theirs.
func (p place) writeFile(path string, f file) error {
	if err := p.disk().WriteFile(path, f.content); err != nil {
		return err
	}
	return p.disk().Grant(path, p.uid, p.gid, p.layout.mode(f))
}

// switchTo makes a generation the current one; 0 removes the link.
func (p place) switchTo(n int) error {
	if n == 0 {
		if p.layout.links != "" {
			if err := unlink(p.disk(), p.link()); err != nil {
				return err
			}
		}
		return unlink(p.disk(), p.current())
	}
	if err := link(p.disk(), filepath.Join(dirGeneration, strconv.Itoa(n)), p.current()); err != nil || p.layout.links == "" {
		return err
	}
	want := p.linkTo(n)
	if to, err := p.disk().ReadLink(p.link()); err == nil && to == want {
		return nil
	}
	return errors.Join(p.disk().MakeDirs(p.layout.links), link(p.disk(), want, p.link()))
}

// link is the place's link in the folder of links.
func (p place) link() string {
	name := filepath.Base(p.path) + ".pem"
	if p.linked == fileDocument {
		name = filepath.Base(p.path) + filepath.Ext(fileDocument)
	}
	return filepath.Join(p.layout.links, name)
}

// linkTo is where that link leads. One to a document is another one for each
// generation, since who watches the folder is told by that.
func (p place) linkTo(n int) string {
	if p.linked == fileDocument {
		return filepath.Join(p.generation(n), fileDocument)
	}
	return filepath.Join(p.current(), fileBundle)
}

// link makes a symbolic link, or another one of it, by one rename.
func link(disk Disk, to, path string) error {
	temporary := path + suffixNew
	if err := disk.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := disk.Symlink(to, temporary); err != nil {
		return err
	}
	if err := disk.Rename(temporary, path); err != nil {
		return errors.Join(err, disk.Remove(temporary))
	}
	return disk.Sync(filepath.Dir(path))
}

func unlink(disk Disk, path string) error {
	err := disk.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.Sync(filepath.Dir(path)))
}

// begin notes, before a switch, the generation to go back to if nobody comes
// back to prove it.
func (p place) begin(previous int) error {
	path, disk := filepath.Join(p.path, fileSwitching), p.disk()
	if err := disk.RemoveAll(path + suffixNew); err != nil {
		return err
	}
	if err := disk.WriteFile(path+suffixNew, []byte(strconv.Itoa(previous))); err != nil {
		return err
	}
	return errors.Join(disk.Rename(path+suffixNew, path), disk.Sync(p.path))
}

// unproven returns the generation to go back to, and whether a switch is not
// proven.
func (p place) unproven() (previous int, is bool) {
	content, err := p.disk().ReadFile(filepath.Join(p.path, fileSwitching))
	if err != nil {
		return 0, false
	}
	previous, err = strconv.Atoi(strings.TrimSpace(string(content)))
	return previous, err == nil
}

// proven ends a switch.
func (p place) proven() error {
	if err := p.disk().Remove(filepath.Join(p.path, fileSwitching)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.disk().Sync(p.path)
}

// prune removes all generations but the current one and keep, and whatever was
// left half written.
func (p place) prune(keep int) error {
	current, err := p.number()
	if err != nil {
		return err
	}
	dir := filepath.Join(p.path, dirGeneration)
	names, err := p.disk().ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		n, parseErr := strconv.Atoi(name)
		if parseErr == nil && (n == current || n == keep) {
			continue
		}
		err = errors.Join(err, p.disk().RemoveAll(filepath.Join(dir, name)))
	}
	leftover := p.disk().Remove(p.current() + suffixNew)
	if leftover != nil && !errors.Is(leftover, fs.ErrNotExist) {
		err = errors.Join(err, leftover)
	}
	return err
}

// PEM is a leaf with its chain, and its key, as PEM.
func PEM(install Install) (fullchain, key []byte, err error) {
	files, err := pemFiles(install.Command, install.Key)
	for _, f := range files {
		switch f.name {
		case fileFullchain:
			fullchain = f.content
		case fileKey:
			key = f.content
		}
	}
	return fullchain, key, err
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
func removeGeneration(p place, n int) error { return p.disk().RemoveAll(p.generation(n)) }
