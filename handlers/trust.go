package handlers

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// TrustStore holds the trust documents.
type TrustStore interface {
	NewestTrust(ctx context.Context) (certctl.Statement, error)
	AddTrust(ctx context.Context, version int64, document certctl.Statement) error
}

// TrustFacts is what the trust document says besides its version.
type TrustFacts struct {
	CommandKeys []certctl.CommandKey
	CABundle    string
	APIURLs     []string
	BusURLs     []string
	// After makes a document of before then not good enough: agents may have a
	// newer one, which the restored database does not know.
	After time.Time
}

// PublishTrust makes sure that the newest trust document says what the facts
// are, and signs a newer version with the fleet key when it does not. Versions
// are microseconds of the clock when those are larger, so that a restored
// database goes on above what agents have seen.
func PublishTrust(ctx context.Context, store TrustStore, installation certctl.ID, fleet crypto.Signer, facts TrustFacts, now time.Time) (certctl.Statement, error) {
	newest, err := store.NewestTrust(ctx)
	if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
		return certctl.Statement{}, err
	}
	var last certctl.TrustDocument
	if err == nil {
		public, ok := fleet.Public().(ed25519.PublicKey)
		if !ok {
			return certctl.Statement{}, certctl.Errorf(certctl.Internal, "the fleet key is not an Ed25519 key")
		}
		if err := newest.Verify(certctl.DomainTrust, public); err != nil {
			return certctl.Statement{}, certctl.Wrap(certctl.Conflict, err, "the newest trust document in the database was not signed by this installation's fleet key")
		}
		if err := newest.Decode(&last); err != nil {
			return certctl.Statement{}, err
		}
		if sameTrust(last, facts) && !last.IssuedAt.Before(facts.After) {
			return newest, nil
		}
	}
	document := certctl.TrustDocument{
		Version: max(last.Version+1, now.UnixMicro()), Installation: installation,
		CommandKeys: facts.CommandKeys, CABundle: facts.CABundle,
		APIURLs: facts.APIURLs, BusURLs: facts.BusURLs, IssuedAt: now.UTC(),
	}
	statement, err := certctl.NewStatement(fleet, certctl.Statement{
		Domain: certctl.DomainTrust, Installation: installation, Kind: "trust", Number: document.Version, Time: now,
	}, document)
	if err != nil {
		return certctl.Statement{}, err
	}
	return statement, store.AddTrust(ctx, document.Version, statement)
}

func sameTrust(last certctl.TrustDocument, facts TrustFacts) bool {
	sameKey := func(a, b certctl.CommandKey) bool {
		return slices.Equal(a.Public, b.Public) && a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter)
	}
	return slices.EqualFunc(last.CommandKeys, facts.CommandKeys, sameKey) && last.CABundle == facts.CABundle &&
		slices.Equal(last.APIURLs, facts.APIURLs) && slices.Equal(last.BusURLs, facts.BusURLs)
}
