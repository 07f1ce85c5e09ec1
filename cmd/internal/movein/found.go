package movein

import (
	"cmp"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// The clients whose folders can be read.
const (
	Certbot = "certbot"
	AcmeSh  = "acme.sh"
	Lego    = "lego"
)

// Secret is a private key in PEM. It does not show in logs, output or errors.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "(secret)" }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// Account is one at a CA.
type Account struct {
	ID        string // as the client calls it
	Directory string // URL
	URL       string // the CA's name for it, where the client has noted it
	Contact   []string
	Key       Secret
}

// Proof is how names are proven to the CA.
type Proof struct {
	Names []string // none: all
	// Plugin is the client's word for a DNS provider; empty: over HTTP.
	Plugin string
	// How is the client's way in words, as in "webroot /var/www".
	How string
}

// Certificate is one that the client renews.
type Certificate struct {
	Name           string
	Directory      string
	Account        string // Account.ID; empty where the client does not say
	Chain          string // PEM, leaf first
	Key            Secret
	KeyType        string // as the client names it; empty: it does not say
	Proofs         []Proof
	PreferredChain string
	Hook           string // what the client runs after a renewal
}

// Problem is something that could not be read.
type Problem struct {
	What string
	Why  string
}

// Found is what is in a folder.
type Found struct {
	Accounts     []Account
	Certificates []Certificate
	Problems     []Problem
}

// Options tell what the folders of some clients do not.
type Options struct {
	// Directory is the URL of the CA's directory for accounts of hosts that are
	// not known. lego does not keep it.
	Directory string
	// Account chooses among accounts at one server where the client does not say
	// which one a certificate is of.
	Account string
}

// Read reads the folder of a client.
func Read(client, dir string, o Options) (Found, error) {
	readers := map[string]func(*tree, Options) Found{Certbot: readCertbot, AcmeSh: readAcmeSh, Lego: readLego}
	reader, known := readers[client]
	if !known {
		return Found{}, certctl.Errorf(certctl.Invalid, "there is no client %q: one of certbot, acme.sh, lego", certctl.Clip(client, 40))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Found{}, certctl.Wrap(certctl.Invalid, err, "the folder %s cannot be opened: %v", dir, err)
	}
	defer func() { _ = root.Close() }()
	found := reader(&tree{root: root}, o)
	found.chooseAccounts(o.Account)
	slices.SortFunc(found.Accounts, func(a, b Account) int {
		return cmp.Or(strings.Compare(a.Directory, b.Directory), strings.Compare(a.ID, b.ID))
	})
	slices.SortFunc(found.Certificates, func(a, b Certificate) int { return strings.Compare(a.Name, b.Name) })
	if len(found.Accounts)+len(found.Certificates)+len(found.Problems) == 0 {
		return found, certctl.Errorf(certctl.Invalid, "%s holds nothing of %s", dir, client).
			WithRemedy("certbot's is /etc/letsencrypt, acme.sh's ~/.acme.sh, lego's the .lego where it was run")
	}
	return found, nil
}

// chooseAccounts completes certificates whose client does not say which account
// they are of: the only one there is, or the one that was asked for.
func (f *Found) chooseAccounts(wanted string) {
	var kept []Certificate
	for _, c := range f.Certificates {
		if c.Account == "" {
			var at []string
			for _, a := range f.Accounts {
				if a.Directory == c.Directory && (wanted == "" || a.ID == wanted) {
					at = append(at, a.ID)
				}
			}
			if len(at) != 1 {
				f.problem(c.Name, "of %d accounts at %s it may be of: say which with --account", len(at), c.Directory)
				continue
			}
			c.Account = at[0]
		}
		if !slices.ContainsFunc(f.Accounts, func(a Account) bool { return a.Directory == c.Directory && a.ID == c.Account }) {
			f.problem(c.Name, "its account %s at %s is not there", c.Account, c.Directory)
			continue
		}
		kept = append(kept, c)
	}
	f.Certificates = kept
}

func (f *Found) problem(what, format string, args ...any) {
	f.Problems = append(f.Problems, Problem{What: what, Why: certctl.Errorf(certctl.Invalid, format, args...).Message})
}

// isDirectory reports whether a text may be the URL of a directory.
func isDirectory(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

// folders are the names of the folders in one.
func (t *tree) folders(dir string) []string {
	return t.names(dir, func(e fs.DirEntry) bool { return e.IsDir() })
}
