package movein

import (
	"encoding/base64"
	"net/url"
	"path"
	"strings"

	"github.com/certctl/certctl"
)

// acmeShDepth is how far below ca/ the folder of a server lies: its host, and the
// path of its directory.
const acmeShDepth = 5

// readAcmeSh reads ~/.acme.sh:
//
//	ca/<host>/<path>/account.key, ca.conf       the host without a port
//	<name>/<name>.conf, .key, .cer, fullchain.cer   <name>_ecc for ECDSA keys
func readAcmeSh(t *tree, _ Options) Found {
	var f Found
	servers := map[string]string{} // folder below ca/ to URL
	for _, dir := range t.folders(".") {
		name := strings.TrimSuffix(dir, "_ecc")
		if dir == "ca" || !t.has(path.Join(dir, name+".conf")) {
			continue
		}
		c, err := acmeShCertificate(t, dir, name)
		if err != nil {
			f.problem(dir, "%s", certctl.ErrorMessage(err))
			continue
		}
		c.Account = acmeShServer(c.Directory)
		servers[c.Account] = c.Directory
		f.Certificates = append(f.Certificates, c)
	}
	for _, dir := range t.below("ca", "account.key", acmeShDepth) {
		id := strings.TrimPrefix(dir, "ca/")
		account := Account{ID: id, Directory: servers[id]}
		if account.Directory == "" {
			account.Directory = "https://" + id
		}
		raw, err := t.read(path.Join(dir, "account.key"))
		if err == nil {
			account.Key, err = keyPEM(raw)
		}
		if err != nil {
			f.problem(dir, "%s", certctl.ErrorMessage(err))
			continue
		}
		conf := parseShell(t.text(path.Join(dir, "ca.conf")))
		account.URL = conf["ACCOUNT_URL"]
		if mail := conf["CA_EMAIL"]; strings.Contains(mail, "@") {
			account.Contact = []string{mail}
		}
		f.Accounts = append(f.Accounts, account)
	}
	return f
}

// acmeShServer is the folder of a server's account.
func acmeShServer(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return ""
	}
	return path.Join(u.Hostname(), u.Path)
}

func acmeShCertificate(t *tree, dir, name string) (Certificate, error) {
	c := Certificate{Name: name}
	if dir != name && t.has(name) { // beside one with an RSA key
		c.Name = dir
	}
	raw, err := t.read(path.Join(dir, name+".conf"))
	if err != nil {
		return c, err
	}
	conf := parseShell(string(raw))
	c.Directory, c.KeyType, c.PreferredChain = conf["Le_API"], conf["Le_Keylength"], conf["Le_PreferredChain"]
	if !isDirectory(c.Directory) {
		return c, certctl.Errorf(certctl.Invalid, "names no server (Le_API): it was never issued, or is of an older acme.sh; renew it once with a newer one")
	}
	for _, hook := range []string{"Le_ReloadCmd", "Le_DeployHook", "Le_RenewHook"} {
		if c.Hook == "" {
			c.Hook = conf[hook]
		}
	}
	c.Proofs = acmeShProofs(conf)
	leaf, err := t.read(path.Join(dir, name+".cer"))
	if err == nil {
		c.Chain, err = chainPEM(leaf, []byte(t.text(path.Join(dir, "fullchain.cer"))))
	}
	if err != nil {
		return c, err
	}
	key, err := t.read(path.Join(dir, name+".key"))
	if err == nil {
		c.Key, err = keyPEM(key)
	}
	return c, err
}

// acmeShProofs reads the ways of the names: a list beside that of the names, whose
// last entry holds for the rest.
func acmeShProofs(conf map[string]string) []Proof {
	names := []string{conf["Le_Domain"]}
	if alt := conf["Le_Alt"]; alt != "" && alt != "no" {
		names = append(names, strings.Split(alt, ",")...)
	}
	ways := strings.Split(conf["Le_Webroot"], ",")
	var proofs []Proof
	for i, name := range names {
		if name == "" {
			continue
		}
		way := ways[min(i, len(ways)-1)]
		p := Proof{Names: []string{name}}
		switch plugin, dns := strings.CutPrefix(way, "dns_"); {
		case dns:
			p.Plugin, p.How = plugin, "acme.sh's "+certctl.Clip(way, 60)
		case way == "dns":
			p.Plugin, p.How = "manual", "acme.sh's manual dns"
		case way == "no":
			p.How = "acme.sh's standalone"
		default:
			p.How = "acme.sh's webroot " + certctl.Clip(way, 100)
		}
		if last := len(proofs) - 1; last >= 0 && proofs[last].How == p.How {
			proofs[last].Names = append(proofs[last].Names, name)
			continue
		}
		proofs = append(proofs, p)
	}
	return proofs
}

// parseShell reads assignments as acme.sh writes them: NAME='value', where a value
// of several words may be in base64 between two marks. Nothing is expanded.
func parseShell(text string) map[string]string {
	conf := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		if inner, ok := strings.CutPrefix(value, "__ACME_BASE64__START_"); ok {
			if raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "__ACME_BASE64__END_")); err == nil {
				value = string(raw)
			}
		}
		conf[key] = value
	}
	return conf
}
