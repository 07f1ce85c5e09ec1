// Package issuer is the list of kinds of CAs that certctl can ask, and what is
// known of each before it is asked.
package issuer

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/local"
)

// Descriptor describes one kind.
type Descriptor struct {
	Kind    string
	Title   string
	Trust   certctl.TrustClass
	Secrets []string // names of settings that are sealed, write-only in the API
	// Duplicates is how many leaves with the same names it gives in a time; Priced
	// says that each costs money. Both are what an issuer begins with, see
	// certctl.ChooseSharing.
	Duplicates certctl.Rate
	Priced     bool
	// Reasons are the revocation reasons that it takes; none: it cannot revoke.
	Reasons []certctl.RevocationReason
	// Validate refuses settings that cannot work, with a field for each.
	Validate func(settings json.RawMessage) error
	// Accounts returns the server at which an issuer with such settings has an
	// account; nil: it has none.
	Accounts func(settings json.RawMessage) (directory string, err error)
	// Budgets returns which budgets of an issuer's account leaves come under; nil: it
	// has none.
	Budgets func(settings json.RawMessage) (func(names certctl.Names, renewal bool) []certctl.BudgetUse, error)
	// Staging returns an issuer as certificates are tested with it, and the directory
	// that is asked then; nil: there is nothing to test.
	Staging func(issuer certctl.Issuer) (certctl.Issuer, string, error)
	// Preflight looks at what the CA will look at before it issues; nil: nothing
	// but certctl itself decides.
	Preflight func(ctx context.Context, installation string, issuer certctl.Issuer, names certctl.Names, records []certctl.ValidationRecord) ([]certctl.PreflightCheck, error)
}

// kinds is the table: a new kind is a package and one line here.
var kinds = []Descriptor{
	{
		Kind: certctl.IssuerLocal, Title: "A CA of our own", Trust: certctl.TrustPrivate,
		Reasons: []certctl.RevocationReason{
			certctl.ReasonUnspecified, certctl.ReasonKeyCompromise, certctl.ReasonAffiliationChanged,
			certctl.ReasonSuperseded, certctl.ReasonCessationOfOperation, certctl.ReasonPrivilegeWithdrawn,
		},
		Validate: local.Validate,
	},
	{
		Kind: acme.Kind, Title: "A CA that speaks ACME", Trust: certctl.TrustPublic,
		Secrets: acme.Secrets, Reasons: acme.Reasons, Validate: acme.Validate,
		// Let's Encrypt's limit per exact set of names. A CA that gives more has it
		// raised in its issuer.
		Duplicates: certctl.Rate{Count: 5, Per: certctl.Duration(7 * certctl.Day)},
		Accounts:   acme.Directory, Staging: acme.Staging, Budgets: acme.PlannedUses,
		Preflight: func(ctx context.Context, installation string, issuer certctl.Issuer, names certctl.Names, records []certctl.ValidationRecord) ([]certctl.PreflightCheck, error) {
			return acme.Preflight{Installation: installation, Records: records}.Run(ctx, issuer, names)
		},
	},
}

// Kinds is the table as the API asks it.
type Kinds struct {
	// Installation returns its id, see certctl.ChallengeHeader; nil: nobody asks.
	Installation func(context.Context) string
}

// Validate refuses an unknown kind, or settings that its kind refuses.
func (Kinds) Validate(kind string, settings json.RawMessage) error {
	descriptor, err := find(kind)
	if err != nil {
		return err
	}
	return descriptor.Validate(settings)
}

// Preflight looks at what an issuer's CA will look at before it issues for names,
// for which records are to be published.
func (k Kinds) Preflight(ctx context.Context, issuer certctl.Issuer, names certctl.Names, records []certctl.ValidationRecord) ([]certctl.PreflightCheck, error) {
	descriptor, err := find(issuer.Kind)
	if err != nil || descriptor.Preflight == nil {
		return nil, err
	}
	installation := ""
	if k.Installation != nil {
		installation = k.Installation(ctx)
	}
	return descriptor.Preflight(ctx, installation, issuer, names, records)
}

// Staging returns an issuer as certificates are tested with it, and the directory
// that is asked then. Kinds that have none are refused.
func (Kinds) Staging(issuer certctl.Issuer) (certctl.Issuer, string, error) {
	descriptor, err := find(issuer.Kind)
	if err == nil && descriptor.Staging == nil {
		err = certctl.Errorf(certctl.Conflict, "%s is of the kind %s: only what ACME CAs are asked for can be tested at a staging directory", issuer.Name, issuer.Kind).
			WithRemedy("name an ACME issuer of the certificate, or issue it: nothing counts at this CA")
	}
	if err != nil {
		return issuer, "", err
	}
	return descriptor.Staging(issuer)
}

// Budgets returns which budgets of an issuer's account leaves for names come under;
// nil where its kind has none.
func (Kinds) Budgets(kind string, settings json.RawMessage) (func(names certctl.Names, renewal bool) []certctl.BudgetUse, error) {
	descriptor, err := find(kind)
	if err != nil || descriptor.Budgets == nil {
		return nil, err
	}
	return descriptor.Budgets(settings)
}

// Secrets returns the names of a kind's secret settings.
func (Kinds) Secrets(kind string) []string {
	descriptor, _ := find(kind)
	return descriptor.Secrets
}

// Directory returns the server at which an issuer has an account; "" where its
// kind has none.
func (Kinds) Directory(kind string, settings json.RawMessage) (string, error) {
	descriptor, err := find(kind)
	if err != nil || descriptor.Accounts == nil {
		return "", err
	}
	return descriptor.Accounts(settings)
}

// Trust returns the trust class of a kind's certificates.
func (Kinds) Trust(kind string) certctl.TrustClass {
	descriptor, _ := find(kind)
	return descriptor.Trust
}

// Duplicates returns how many leaves with the same names a kind gives.
func (Kinds) Duplicates(kind string) certctl.Rate {
	descriptor, _ := find(kind)
	return descriptor.Duplicates
}

// Priced reports whether each leaf of a kind costs money.
func (Kinds) Priced(kind string) bool {
	descriptor, _ := find(kind)
	return descriptor.Priced
}

func find(kind string) (Descriptor, error) {
	i := slices.IndexFunc(kinds, func(d Descriptor) bool { return d.Kind == kind })
	if i < 0 {
		return Descriptor{}, certctl.InvalidField("/kind", "there is no kind of issuer %q", certctl.Clip(kind, 40))
	}
	return kinds[i], nil
}
