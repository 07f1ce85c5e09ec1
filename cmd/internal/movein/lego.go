package movein

import (
	"encoding/json"
	"net/url"
	"path"
	"strings"

	"github.com/certctl/certctl"
)

// readLego reads .lego:
//
//	accounts/<host_port>/<mail>/account.json, keys/<mail>.key
//	certificates/<name>.json, .crt, .issuer.crt, .key
//
// Neither names the URL of the CA's directory, nor how names are proven.
func readLego(t *tree, o Options) Found {
	var f Found
	for _, server := range t.folders("accounts") {
		for _, mail := range t.folders(path.Join("accounts", server)) {
			dir := path.Join("accounts", server, mail)
			a, err := legoAccount(t, dir, server, mail, o)
			if err != nil {
				f.problem(dir, "%s", certctl.ErrorMessage(err))
				continue
			}
			f.Accounts = append(f.Accounts, a)
		}
	}
	for _, file := range t.files("certificates", ".json") {
		c, err := legoCertificate(t, strings.TrimSuffix(file, ".json"), o)
		if err != nil {
			f.problem("certificates/"+file, "%s", certctl.ErrorMessage(err))
			continue
		}
		f.Certificates = append(f.Certificates, c)
	}
	return f
}

func legoAccount(t *tree, dir, server, mail string, o Options) (Account, error) {
	a := Account{ID: mail}
	var err error
	if a.Directory, err = directoryAt(server, o); err != nil {
		return a, err
	}
	raw, err := t.read(path.Join(dir, "account.json"))
	if err != nil {
		return a, err
	}
	var noted struct {
		Email        string
		Registration struct {
			URI  string
			Body struct{ Contact []string }
		}
	}
	if err := json.Unmarshal(raw, &noted); err != nil {
		return a, certctl.Errorf(certctl.Invalid, "account.json cannot be read")
	}
	a.URL, a.Contact = noted.Registration.URI, mails(noted.Registration.Body.Contact)
	if len(a.Contact) == 0 && strings.Contains(noted.Email, "@") {
		a.Contact = []string{noted.Email}
	}
	key, err := t.read(path.Join(dir, "keys", mail+".key"))
	if err == nil {
		a.Key, err = keyPEM(key)
	}
	return a, err
}

func legoCertificate(t *tree, name string, o Options) (Certificate, error) {
	c := Certificate{Name: name}
	raw, err := t.read(path.Join("certificates", name+".json"))
	if err != nil {
		return c, err
	}
	var noted struct{ CertURL string }
	if err := json.Unmarshal(raw, &noted); err != nil {
		return c, certctl.Errorf(certctl.Invalid, "cannot be read")
	}
	u, err := url.Parse(noted.CertURL)
	if err != nil || u.Host == "" {
		return c, certctl.Errorf(certctl.Invalid, "names no certUrl: nothing says which CA it is of")
	}
	if c.Directory, err = directoryAt(strings.ReplaceAll(u.Host, ":", "_"), o); err != nil {
		return c, err
	}
	leaf, err := t.read(path.Join("certificates", name+".crt"))
	if err == nil {
		c.Chain, err = chainPEM(leaf, []byte(t.text(path.Join("certificates", name+".issuer.crt"))))
	}
	if err != nil {
		return c, err
	}
	c.Proofs = []Proof{{How: "a way that lego does not note"}}
	key, err := t.read(path.Join("certificates", name+".key"))
	if err == nil {
		c.Key, err = keyPEM(key)
	}
	return c, err
}

// directoryAt is the URL of the directory at a server, whose colon is written as
// an underscore.
func directoryAt(server string, o Options) (string, error) {
	for known := range shortNames {
		if u, err := url.Parse(known); err == nil && u.Host == server {
			return known, nil
		}
	}
	if u, err := url.Parse(o.Directory); err == nil && isDirectory(o.Directory) && strings.ReplaceAll(u.Host, ":", "_") == server {
		return o.Directory, nil
	}
	return "", certctl.Errorf(certctl.Invalid, "lego does not keep the URL of the directory at %s: say it with --directory", certctl.Clip(server, 100))
}
