package acme

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// challengePersist is draft-ietf-acme-dns-persist: experimental. Since -02, what
// stands for the account is a hash under a prefix that the CA's directory names; a
// CA that names none takes the account's URL, as before.
const challengePersist = "dns-persist-01"

// RecordKeeper is a Store that keeps what is to be published for a certificate.
type RecordKeeper interface {
	PutValidationRecords(ctx context.Context, order, issuer certctl.ID, records []certctl.ValidationRecord, fraction float64) error
}

// persistPause is how soon it is looked again whether somebody has published a
// record, at most.
const persistPause = 10 * time.Minute

// maxIssuerNames is how many names of a CA a challenge may offer.
const maxIssuerNames = 10

var (
	issuerNames = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	// values are what a parameter of a record may have for a value.
	values = regexp.MustCompile(`^[!-:<-~]{1,1000}$`)
)

// directoryMeta is what lego does not read of a directory.
type directoryMeta struct {
	Identities    []string `json:"caaIdentities"`
	IssuerNames   []string `json:"issuerDomainNames"`
	AccountPrefix string   `json:"accountHashPrefix"`
}

// persistMeta reads it. Names that break the draft's rules are as good as none.
func persistMeta(directory []byte) directoryMeta {
	var d struct {
		Meta directoryMeta `json:"meta"`
	}
	_ = json.Unmarshal(directory, &d) // lego has read it already
	if checkIssuerNames(d.Meta.IssuerNames) != nil {
		d.Meta.IssuerNames = nil
	}
	if checkIssuerNames(d.Meta.Identities) != nil {
		d.Meta.Identities = nil
	}
	return d.Meta
}

func checkIssuerNames(names []string) error {
	if len(names) == 0 || len(names) > maxIssuerNames {
		return certctl.Errorf(certctl.Invalid, "it must name 1 to %d names of the CA", maxIssuerNames)
	}
	for _, name := range names {
		if len(name) > 253 || !issuerNames.MatchString(name) {
			return certctl.Errorf(certctl.Invalid, "%q is no lower-case domain name", certctl.Clip(name, 100))
		}
	}
	return nil
}

// known are the names that the CA goes by before it has been asked for anything.
func (m directoryMeta) known() []string {
	if len(m.IssuerNames) > 0 {
		return m.IssuerNames
	}
	return m.Identities
}

// persistChallenge is what lego does not read of a challenge.
type persistChallenge struct {
	Type    string   `json:"type"`
	Names   []string `json:"issuerDomainNames"`
	Older   []string `json:"issuer-domain-names"` // before -02
	Account string   `json:"accounturi"`          // before -02
}

// offered are the names of the CA of which a record must have one, as an
// authorization offers them.
func (a *attempt) offered(authorization []byte) ([]string, error) {
	var body struct {
		Challenges []persistChallenge `json:"challenges"`
	}
	_ = json.Unmarshal(authorization, &body) // lego has read it already
	i := slices.IndexFunc(body.Challenges, func(c persistChallenge) bool { return c.Type == challengePersist })
	if i < 0 {
		return nil, misconfigured(nil, "the CA's challenge %s cannot be read", challengePersist)
	}
	challenge, meta := body.Challenges[i], a.session.meta()
	names := challenge.Names
	if len(names) == 0 {
		names = challenge.Older
	}
	lacks := func(set []string) func(string) bool {
		return func(name string) bool { return !slices.Contains(set, name) }
	}
	err := checkIssuerNames(names)
	switch {
	case err != nil:
		return nil, misconfigured(err, "the CA's challenge %s is malformed: %s", challengePersist, certctl.ErrorMessage(err))
	case slices.ContainsFunc(meta.IssuerNames, lacks(names)), len(meta.Identities) > 0 && slices.ContainsFunc(names, lacks(meta.Identities)):
		return nil, misconfigured(nil, "the CA's challenge %s is malformed: its names are not those of the CA's directory", challengePersist)
	case challenge.Account != "" && challenge.Account != a.account.URL:
		return nil, misconfigured(nil, "the CA's challenge %s names another account than ours: nothing may be published for it", challengePersist)
	}
	return names, nil
}

// offered are the names of the CA that do for all records which are to be looked at
// now; those that were known before come first, so that what is published stays.
func (s state) offered(known []string) []string {
	var names []string
	for i, p := range s.open(challengePersist) {
		if i == 0 {
			names = slices.Clone(p.Issuers)
			continue
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(p.Issuers, name) })
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(known, a) - rank(known, b) })
	return names
}

func rank(known []string, name string) int {
	if i := slices.Index(known, name); i >= 0 {
		return i
	}
	return len(known)
}

// persistRecords are what the names of an order need to be published, which rules
// prove that way; the issuer's names are the CA's.
func (a *attempt) persistRecords(issuers []string) ([]certctl.ValidationRecord, error) {
	var records []certctl.ValidationRecord
	for _, name := range identifiers(a.job.Order.Names) {
		rule, _ := a.ca.settings.rule(name)
		if rule.Type != challengePersist {
			continue
		}
		base, wildcard := strings.CutPrefix(name, "*.")
		i := slices.IndexFunc(records, func(r certctl.ValidationRecord) bool { return r.Name == base })
		if i < 0 {
			accounts, err := a.accountsOf(base)
			if err != nil {
				return nil, err
			}
			i, records = len(records), append(records, certctl.ValidationRecord{
				Issuer: certctl.Ref{ID: a.ca.issuer.ID, Name: a.ca.issuer.Name}, Name: base, Record: persistLabel + base,
				Terms: certctl.RecordTerms{Issuers: issuers, Accounts: accounts},
			})
		}
		r := &records[i]
		r.Terms.Wildcard = r.Terms.Wildcard || wildcard
		r.Value = persistValue(r.Terms, rule.Until)
	}
	return records, nil
}

// accountsOf are what a record of a name may call our account, the first of which
// is published.
func (a *attempt) accountsOf(name string) ([]string, error) {
	prefix := a.session.meta().AccountPrefix
	accounts := []string{a.account.URL}
	if prefix != "" {
		key, err := a.session.GetKeyAuthorization("")
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the account's key has no thumbprint")
		}
		thumbprint := strings.TrimPrefix(key, ".")
		accounts = []string{hashedAccount(prefix, name, thumbprint, a.account.URL), hashedAccount(prefix, "*", thumbprint, a.account.URL)}
	}
	for _, account := range accounts {
		if !values.MatchString(account) {
			return nil, misconfigured(nil, "what the CA calls our account cannot stand in a TXT record: use another challenge")
		}
	}
	return accounts, nil
}

// hashedAccount stands for an account in the record of a name (section 4.1, item 3).
// The name * is that of any.
func hashedAccount(prefix, name, thumbprint, account string) string {
	input := append([]byte{byte(len(name))}, name+thumbprint+account...) // names have 253 octets at most
	digest := sha256.Sum256(input)
	return prefix + "sha-256/" + base64.RawURLEncoding.EncodeToString(digest[:])
}

// published waits until the records of an order are there, as far as it is known
// what they must say: before the CA has an order that would expire while people
// take their time.
func (a *attempt) published(ctx context.Context, issuers []string) error {
	if len(issuers) == 0 {
		return nil
	}
	records, err := a.persistRecords(issuers)
	if err != nil || len(records) == 0 {
		return err
	}
	if err := a.ownAccount(); err != nil {
		return err
	}
	var missing *certctl.ValidationRecord
	var unasked error // people are told what to publish all the same
	for i := range records {
		r := &records[i]
		if r.RecordFinding, err = a.ca.FindRecord(ctx, *r); err != nil {
			r.RecordFinding = certctl.RecordFinding{State: certctl.RecordUnreachable, Message: certctl.ErrorMessage(err)}
			unasked = cmp.Or(unasked, error(&certctl.IssueError{
				Kind: certctl.FailRetryable, Code: "acme_dns_servers", Resume: true, Cause: err,
				Message: "the DNS servers of " + r.Record + " cannot be asked: " + toPublish(*r),
			}))
			continue
		}
		if r.State != certctl.RecordPublished && missing == nil {
			missing = r
		}
	}
	if keeper, keeps := a.ca.store.(RecordKeeper); keeps {
		if err := keeper.PutValidationRecords(ctx, a.attempt.Order, a.ca.issuer.ID, records, rand.Float64()); err != nil {
			return err
		}
	}
	if unasked != nil || missing == nil {
		return unasked
	}
	after := min(5*time.Second<<min(a.state.Polls, 7), persistPause)
	return &certctl.Pause{After: after, Wait: certctl.WaitRecord, Message: toPublish(*missing)}
}

// toPublish says what somebody is to do about a record.
func toPublish(r certctl.ValidationRecord) string {
	return r.Record + " does not prove the name yet: " + r.Message + `. Publish ` + r.Record + `. TXT "` + r.Value + `"`
}

// ownAccount has the CA confirm that the account is ours, before people are told to
// publish its name (section 4.5): once for each that this process uses.
func (a *attempt) ownAccount() error {
	known := a.account.ID.String() + " " + a.account.URL
	if _, confirmed := a.ca.confirmed.Load(known); confirmed {
		return nil
	}
	found, err := a.session.Accounts.Get(a.account.URL)
	if err != nil {
		return a.session.transport.failed(err, "the CA does not show the account")
	}
	if found.Status != "valid" {
		return misconfigured(nil, "the account is %q at the CA: make another issuer", certctl.Clip(found.Status, 20))
	}
	a.ca.confirmed.Store(known, true)
	return nil
}

// FindRecord looks at a record at all servers that count: what the worst of them
// shows is what a CA may see.
func (c *CA) FindRecord(ctx context.Context, r certctl.ValidationRecord) (certctl.RecordFinding, error) {
	proven := r.Name
	if r.Terms.Wildcard {
		proven = "*." + r.Name
	}
	if rule, ok := c.settings.rule(proven); !ok || rule.Type != challengePersist {
		return certctl.RecordFinding{State: certctl.RecordUnneeded}, nil
	}
	var worst certctl.RecordFinding
	now := time.Now()
	err := c.eachServer(ctx, c.delegated(ctx, r.Record), func(server string, values []string) bool {
		found := judge(r.Terms, values, now)
		if found.State != certctl.RecordPublished {
			found.Message += ", says " + server
		}
		if found.State != certctl.RecordPublished || worst.State == "" || later(worst.Until, found.Until) {
			worst = found
		}
		return found.State == certctl.RecordPublished
	})
	return worst, err
}
