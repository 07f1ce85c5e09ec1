package movein

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// certbotDepth is how far below accounts/ the accounts of a server lie: its host,
// the path of its directory, the account.
const certbotDepth = 6

// readCertbot reads /etc/letsencrypt:
//
//	accounts/<host>/<path>/<id>/private_key.json, regr.json
//	renewal/<name>.conf
//	live/<name>/fullchain.pem, privkey.pem      links into archive/
func readCertbot(t *tree, _ Options) Found {
	var f Found
	servers := map[string]bool{}
	for _, file := range t.files("renewal", ".conf") {
		c, err := certbotCertificate(t, file)
		if err != nil {
			f.problem("renewal/"+file, "%s", certctl.ErrorMessage(err))
			continue
		}
		f.Certificates = append(f.Certificates, c)
		servers[c.Directory] = true
	}
	for _, dir := range t.below("accounts", "private_key.json", certbotDepth) {
		// The folders are the URL without its scheme.
		server := "https://" + strings.TrimPrefix(path.Dir(dir), "accounts/")
		account := Account{ID: path.Base(dir), Directory: server}
		// A server whose path ends in a slash is the same folder.
		if !servers[server] && servers[server+"/"] {
			account.Directory = server + "/"
		}
		raw, err := t.read(path.Join(dir, "private_key.json"))
		if err == nil {
			account.Key, err = keyJWK(raw)
		}
		if err != nil {
			f.problem(dir, "%s", certctl.ErrorMessage(err))
			continue
		}
		account.URL, account.Contact = registration(t.text(path.Join(dir, "regr.json")))
		f.Accounts = append(f.Accounts, account)
	}
	return f
}

// registration is what certbot notes of one: the account's URL, and in some
// versions its contacts.
func registration(text string) (url string, contact []string) {
	var regr struct {
		URI  string
		Body struct{ Contact []string }
	}
	if json.Unmarshal([]byte(text), &regr) != nil {
		return "", nil
	}
	return regr.URI, mails(regr.Body.Contact)
}

// mails are the e-mail addresses among contacts (RFC 8555 section 7.3).
func mails(contacts []string) []string {
	var out []string
	for _, c := range contacts {
		if mail, ok := strings.CutPrefix(c, "mailto:"); ok && !slices.Contains(out, mail) {
			out = append(out, mail)
		}
	}
	return out
}

func certbotCertificate(t *tree, file string) (Certificate, error) {
	c := Certificate{Name: strings.TrimSuffix(file, ".conf")}
	raw, err := t.read("renewal/" + file)
	if err != nil {
		return c, err
	}
	conf := parseINI(string(raw))
	params := conf["renewalparams"]
	c.Directory, c.Account, c.KeyType = params["server"], params["account"], params["key_type"]
	c.PreferredChain = params["preferred_chain"]
	if !isDirectory(c.Directory) || c.Account == "" {
		return c, certctl.Errorf(certctl.Invalid, "names no server and account: it is not of an ACME version 2 that certbot still renews")
	}
	for _, hook := range []string{"deploy_hook", "renew_hook", "post_hook"} {
		if c.Hook == "" && params[hook] != "None" {
			c.Hook = params[hook]
		}
	}
	c.Proofs = []Proof{certbotProof(params, conf)}
	// Where the folder was copied to, its files are where they would be by default.
	live := "live/" + c.Name + "/"
	chain, err := t.read(live + "fullchain.pem")
	if err == nil {
		c.Chain, err = chainPEM(chain)
	}
	if err != nil {
		return c, err
	}
	key, err := t.read(live + "privkey.pem")
	if err == nil {
		c.Key, err = keyPEM(key)
	}
	return c, err
}

func certbotProof(params map[string]string, conf map[string]map[string]string) Proof {
	authenticator := params["authenticator"]
	how := "certbot's " + certctl.Clip(authenticator, 40)
	if plugin, dns := strings.CutPrefix(authenticator, "dns-"); dns {
		return Proof{Plugin: plugin, How: how}
	}
	if authenticator == "manual" && strings.Contains(params["pref_challs"], "dns-01") {
		return Proof{Plugin: "manual", How: how}
	}
	var roots []string
	for _, root := range conf["webroot_map"] {
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	slices.Sort(roots)
	return Proof{How: strings.TrimSpace(how + " " + certctl.Clip(strings.Join(roots, ", "), 200))}
}

// parseINI reads what certbot writes: sections in any number of brackets, values
// that reach to the end of the line. Nothing in it is a reference to elsewhere.
func parseINI(text string) map[string]map[string]string {
	conf, section := map[string]map[string]string{"": {}}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			if conf[section] == nil {
				conf[section] = map[string]string{}
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		conf[section][strings.TrimSpace(key)] = value
	}
	return conf
}
