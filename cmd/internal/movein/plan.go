package movein

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// Rule is one entry of an ACME issuer's challenges.
type Rule struct {
	Type     string   `json:"type"`
	Provider string   `json:"provider,omitempty"`
	Names    []string `json:"names,omitempty"`
}

// Issuer is one that is to be made: an account with how its names are proven.
type Issuer struct {
	Name    string
	Account Account
	Rules   []Rule
	Chain   string // that all of its certificates prefer
	ToDo    []string
	used    []*Import
}

// Import is one certificate that is to be taken in.
type Import struct {
	Name     string
	Issuer   string
	NotAfter time.Time
	Certificate
	ToDo []string
}

// Plan is what a folder becomes.
type Plan struct {
	Issuers []*Issuer
	Imports []*Import
}

// PlanOf names what is to be made of what was found. Accounts without
// certificates are left out.
func PlanOf(client string, f Found) Plan {
	var p Plan
	byAccount := map[[2]string]*Issuer{}
	at := map[string]int{} // used accounts of a directory
	for _, a := range f.Accounts {
		key := [2]string{a.Directory, a.ID}
		if slices.ContainsFunc(f.Certificates, func(c Certificate) bool { return [2]string{c.Directory, c.Account} == key }) {
			i := &Issuer{Name: objectName(client + "-" + directoryName(a.Directory)), Account: a}
			byAccount[key] = i
			p.Issuers = append(p.Issuers, i)
			at[a.Directory]++
		}
	}
	for _, i := range p.Issuers {
		if at[i.Account.Directory] > 1 {
			i.Name = objectName(i.Name + "-" + certctl.Clip(i.Account.ID, 40))
		}
	}
	for _, c := range f.Certificates {
		i := byAccount[[2]string{c.Directory, c.Account}]
		made := &Import{Name: objectName(c.Name), Issuer: i.Name, Certificate: c, NotAfter: notAfter(c.Chain)}
		i.used = append(i.used, made)
		p.Imports = append(p.Imports, made)
	}
	for _, i := range p.Issuers {
		i.prove(client)
		i.prefer()
	}
	return p
}

// prove makes rules of how the certificates' names are proven.
func (i *Issuer) prove(client string) {
	byProvider := map[string][]string{}
	var order []string
	for _, c := range i.used {
		for _, proof := range c.Proofs {
			names := proof.Names
			if len(names) == 0 {
				names = namesOf(c.Chain)
			}
			if proof.Plugin == "" {
				c.ToDo = append(c.ToDo, "port 80 of "+shown(names)+" ("+proof.How+") must lead to CERTCTL_ACME_HTTP_LISTEN for "+
					"/.well-known/acme-challenge/; see: certctl doctor certificate "+c.Name)
				continue
			}
			provider, known := ProviderOf(client, proof.Plugin)
			if !known || provider.Configured {
				c.ToDo = append(c.ToDo, "add a dns-01 rule with a provider for "+shown(names)+" ("+proof.How+") to challenges of the issuer "+
					i.Name+": certctl issuers update "+i.Name+" -f FILE")
				continue
			}
			if _, there := byProvider[provider.Name]; !there {
				order = append(order, provider.Name)
			}
			for _, name := range names {
				if !slices.Contains(byProvider[provider.Name], name) {
					byProvider[provider.Name] = append(byProvider[provider.Name], name)
				}
			}
		}
	}
	for _, name := range order {
		i.Rules = append(i.Rules, Rule{Type: "dns-01", Provider: name, Names: byProvider[name]})
		i.ToDo = append(i.ToDo, "give the issuer "+i.Name+" the secrets of its DNS provider "+name+": certctl issuers update "+i.Name+" -f FILE")
	}
	i.Rules = append(i.Rules, Rule{Type: "http-01"})
}

// prefer takes over the chain that all certificates prefer.
func (i *Issuer) prefer() {
	for n, c := range i.used {
		if n > 0 && c.PreferredChain != i.Chain {
			i.Chain = ""
			i.ToDo = append(i.ToDo, "the certificates of "+i.Name+" prefer different chains; an issuer has one: set preferred_chain, or make another issuer")
			return
		}
		i.Chain = c.PreferredChain
	}
}

// shown are a few names in words.
func shown(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}

// shortNames are directories that have a name in an issuer's settings.
var shortNames = map[string]string{
	"https://acme-v02.api.letsencrypt.org/directory":         "letsencrypt",
	"https://acme-staging-v02.api.letsencrypt.org/directory": "letsencrypt-staging",
	"https://acme.zerossl.com/v2/DV90":                       "zerossl",
	"https://dv.acme-v02.api.pki.goog/directory":             "google",
}

// ShortName is what an issuer's settings may say instead of a directory's URL.
func ShortName(directory string) string { return shortNames[directory] }

// directoryName is a short name of a server.
func directoryName(directory string) string {
	if name, known := shortNames[directory]; known {
		return name
	}
	u, err := url.Parse(directory)
	if err != nil {
		return "acme"
	}
	return u.Host
}

// objectName makes a text a name that objects may have.
func objectName(text string) string {
	for _, wildcard := range []string{"*.", "_."} {
		if rest, ok := strings.CutPrefix(text, wildcard); ok {
			text = "wildcard." + rest
		}
	}
	text = strings.Map(func(c rune) rune {
		if c < 0x80 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-@", c)) {
			return c
		}
		return '-'
	}, text)
	return strings.TrimLeft(certctl.Clip(text, 90), "._-@")
}

func leafOf(chain string) *x509.Certificate {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

func notAfter(chain string) time.Time {
	if leaf := leafOf(chain); leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

func namesOf(chain string) []string {
	leaf := leafOf(chain)
	if leaf == nil {
		return nil
	}
	return leaf.DNSNames
}
