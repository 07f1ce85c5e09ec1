package target

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

// stagedPlace is a place with the generation that a check is to find there.
type stagedPlace struct {
	Place string       `json:"place"`
	Slot  certctl.Slot `json:"slot"`
	Files []stagedFile `json:"files"`
}

type stagedFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
	Secret  bool   `json:"secret"`
}

// trial is a check with places staged in memory. It holds private keys, and goes
// to the process that stages them through a pipe.
type trial struct {
	Directory string        `json:"directory"`
	Links     string        `json:"links,omitempty"`
	UID       int           `json:"uid"`
	GID       int           `json:"gid"`
	KeyMode   uint32        `json:"key_mode"`
	Places    []stagedPlace `json:"places"`
	Argv      []string      `json:"argv"`
}

// places says what would be done at each place, and returns what to stage there.
func (d *dryRun) places(places []certctl.TestPlace) []stagedPlace {
	var staged []stagedPlace
	defer func() { d.about = certctl.NoID }()
	for _, p := range places {
		d.about = p.Binding
		files, err := d.place(p)
		if err != nil {
			d.fails("place", p.Place, err)
			continue
		}
		one := stagedPlace{Place: p.Place, Slot: p.Slot}
		for _, f := range files {
			one.Files = append(one.Files, stagedFile{f.name, f.content, f.secret})
		}
		staged = append(staged, one)
	}
	return staged
}

// place renders the files of a place anew, with what material says.
func (d *dryRun) place(p certctl.TestPlace) ([]file, error) {
	if err := certctl.CheckPlace(p.Place); err != nil {
		return nil, err
	}
	at := d.target.driver.layout().placeOf(p.Place, p.Slot)
	install, what, err := d.material(p, at)
	if err != nil {
		return nil, err
	}
	leaf, err := checkPair(install, d.target.env.Now())
	if err != nil {
		return nil, err
	}
	files, err := pemFiles(install.Command, install.Key)
	if err != nil {
		return nil, err
	}
	more, err := d.target.driver.files(material{install: install, place: at, leaf: leaf})
	if err == nil {
		d.ok("place", at.path, "%s", what)
	}
	return append(files, more...), err
}

// material is the certificate and key that are installed at a place, or, where none
// are or the certificate has ended, a pair that is made for the test and forgotten
// with it; and what an installation would do there.
func (d *dryRun) material(p certctl.TestPlace, at place) (install Install, what string, err error) {
	current, err := at.number()
	if err != nil {
		return Install{}, "", certctl.Wrap(certctl.Conflict, err, "the link %s cannot be read", at.current())
	}
	now := d.target.env.Now()
	if current == 0 {
		install, err = standIn(p, now)
		return install, "a first generation would be written for " + p.Certificate + "; until then another pair stands in for its", err
	}
	facts, unread := at.leaf(current)
	what = fmt.Sprintf("a generation would follow number %d for %s", current, p.Certificate)
	if unread == nil && now.After(facts.NotAfter) { // which an installation would mend
		install, err = standIn(p, now)
		return install, fmt.Sprintf("%s, whose certificate there ended on %s; another pair stands in for it", what, facts.NotAfter.Format(time.RFC3339)), err
	}
	if facts.Fingerprint == p.Fingerprint {
		what = fmt.Sprintf("holds the newest certificate of %s as generation %d: an installation would change nothing", p.Certificate, current)
	}
	install, err = at.installed(p)
	return install, what, err
}

// installed is what is current at a place, as its installation was.
func (p place) installed(want certctl.TestPlace) (Install, error) {
	content, err := p.disk().ReadFile(filepath.Join(p.current(), fileFullchain))
	if err != nil {
		return Install{}, unreadable(err, fileFullchain)
	}
	var certs [][]byte
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certs = append(certs, block.Bytes)
	}
	text, err := p.disk().ReadFile(filepath.Join(p.current(), fileKey))
	if err != nil {
		return Install{}, unreadable(err, fileKey)
	}
	block, _ := pem.Decode(text)
	if block == nil || len(certs) == 0 {
		return Install{}, certctl.Errorf(certctl.Conflict, "%s holds no certificate with its key", p.current()).
			WithRemedy("install it again: certctl certificates redeploy %s", want.Certificate)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Install{}, certctl.Wrap(certctl.Conflict, err, "%s cannot be read", fileKey)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return Install{}, certctl.Errorf(certctl.Conflict, "%s holds no key that can sign", fileKey)
	}
	return installOf(want, certs[0], certs[1:], signer)
}

func installOf(p certctl.TestPlace, leaf []byte, chain [][]byte, key crypto.Signer) (Install, error) {
	facts, err := certctl.ParseLeaf(leaf)
	if err != nil {
		return Install{}, err
	}
	return Install{Key: key, Command: certctl.InstallCommand{
		CertificateName: p.Certificate, Place: p.Place, Slot: p.Slot, Fingerprint: facts.Fingerprint, SPKI: facts.SPKI, Names: facts.Names,
		Leaf: leaf, Chain: chain,
	}}, nil
}

// standIn is a self-signed certificate with a key of its own, which exist in memory
// only: a daemon's check asks whether it can load a pair, and not whose it is.
func standIn(p certctl.TestPlace, now time.Time) (Install, error) {
	var key crypto.Signer
	var err error
	if p.Slot == certctl.SlotRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return Install{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: p.Names.DNS, EmailAddresses: p.Names.Email,
	}
	for _, ip := range p.Names.IP {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	for _, text := range p.Names.URI {
		uri, err := url.Parse(text)
		if err != nil {
			return Install{}, err
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Install{}, err
	}
	return installOf(p, der, nil, key)
}

// checkInMemory runs the daemon's check in a namespace of its own, in which places
// have other generations. Nothing of it is written to a disk. It returns
// errNoNamespace where the kernel does not let us.
func (t *Target) checkInMemory(ctx context.Context, places []stagedPlace, argv []string) error {
	if err := t.env.Policy.AllowCommand(argv); err != nil {
		return err
	}
	layout := t.driver.layout()
	cmd, feed, err := trialCommand(trial{
		Directory: layout.directory, Links: layout.links, UID: layout.uid, GID: layout.gid, KeyMode: uint32(layout.keyMode), Places: places, Argv: argv,
	})
	if err != nil {
		return err
	}
	cmd.Stdin = feed
	return noNamespace(execute(ctx, cmd))
}

// noNamespace tells a check that could not be made from one that was refused.
func noNamespace(err error) error {
	var exit *exec.ExitError
	if refused(err) || errors.As(err, &exit) && exit.ExitCode() == exitNoNamespace {
		return errNoNamespace
	}
	return err
}

// feedOf is what a process reads as its input.
func feedOf(text []byte) io.Reader { return strings.NewReader(string(text)) }

// stage makes the generations of a trial current, where nobody else can see it.
func (t trial) stage() error {
	l := layout{directory: t.Directory, links: t.Links, uid: t.UID, gid: t.GID, keyMode: fs.FileMode(t.KeyMode)}
	for _, one := range t.Places {
		p := l.placeOf(one.Place, one.Slot)
		n, err := p.newest()
		if err != nil {
			return err
		}
		var files []file
		for _, f := range one.Files {
			files = append(files, file{name: f.Name, content: f.Content, secret: f.Secret})
		}
		if err := errors.Join(p.write(n+1, files), p.switchTo(n+1)); err != nil {
			return err
		}
	}
	return nil
}

// oneself is how a program runs itself under another name.
func oneself(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{name}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}
