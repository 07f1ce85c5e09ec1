package handlers

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/rs/zerolog"
)

// CRLStore knows what is revoked, and keeps signed lists.
type CRLStore interface {
	AuthorityStore
	AuthorityByID(ctx context.Context, id certctl.ID) (certctl.Authority, error)
	RevokedEntries(ctx context.Context, authority certctl.ID, shard int) ([]certctl.RevokedEntry, error)
	GetCRL(ctx context.Context, authority certctl.ID, shard int) (certctl.CRL, error)
	SaveCRL(ctx context.Context, list certctl.CRL) error
	// CRLDone says when an authority's lists are due again.
	CRLDone(ctx context.Context, authority certctl.ID, next time.Time) error
}

// Lists signs revocation lists: anew daily, and at once after a change.
type Lists struct {
	store       CRLStore
	authorities *Authorities
	log         zerolog.Logger
}

// NewLists returns the handler.
func NewLists(store CRLStore, authorities *Authorities, log zerolog.Logger) *Lists {
	return &Lists{store: store, authorities: authorities, log: log}
}

// maxCompleteCRL is up to how many entries the complete list is kept beside the
// shards: one of a million entries costs seconds and a gigabyte.
const maxCompleteCRL = 100_000

// Handle signs the lists of the authorities that the hint names.
func (l *Lists) Handle(ctx context.Context, hint certctl.Hint) error {
	for _, id := range hint.IDs {
		authority, err := l.store.AuthorityByID(ctx, id)
		if certctl.ErrorCode(err) == certctl.NotFound {
			continue // hints may be forged
		}
		if err == nil {
			err = l.Sign(ctx, authority)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sign signs those lists of an authority that have changed or whose time has
// come. An authority whose key is off line keeps the lists it has.
func (l *Lists) Sign(ctx context.Context, stored certctl.Authority) error {
	now, err := l.store.Now(ctx)
	if err != nil {
		return err
	}
	if len(stored.SealedKey) == 0 || stored.State == certctl.AuthorityRequested {
		return l.store.CRLDone(ctx, stored.ID, now.Add(ca.CRLRenewal))
	}
	opened, err := l.authorities.Open(stored)
	if err != nil {
		return err
	}
	entries, err := l.store.RevokedEntries(ctx, stored.ID, certctl.CompleteCRL)
	if err != nil {
		return err
	}
	byShard := make([][]certctl.RevokedEntry, stored.Shards)
	for _, entry := range entries {
		shard := ca.Shard(entry.Serial, stored.Shards)
		byShard[shard] = append(byShard[shard], entry)
	}
	signed := 0
	if len(entries) <= maxCompleteCRL {
		if signed, err = l.signList(ctx, opened, certctl.CompleteCRL, entries, now); err != nil {
			return err
		}
	}
	shards := stored.Shards
	if IsRoot(stored) {
		shards = 0 // a root signs a handful of CAs: the complete list is enough
	}
	for shard := range shards {
		n, err := l.signList(ctx, opened, shard, byShard[shard], now)
		if err != nil {
			return err
		}
		signed += n
	}
	l.log.Info().Stringer("authority", stored.ID).Int("entries", len(entries)).Int("signed", signed).Msg("revocation lists signed")
	return l.store.CRLDone(ctx, stored.ID, now.Add(ca.CRLRenewal))
}

// signList signs one list unless the one that is there says the same and is
// younger than half a renewal interval.
func (l *Lists) signList(ctx context.Context, authority *ca.Authority, shard int, entries []certctl.RevokedEntry, now time.Time) (int, error) {
	last, err := l.store.GetCRL(ctx, authority.ID, shard)
	if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
		return 0, err
	}
	if err == nil && now.Sub(last.ThisUpdate) < ca.CRLRenewal/2 && ca.SameEntries(last.DER, entries) {
		return 0, nil
	}
	list, err := authority.SignCRL(shard, max(last.Number+1, now.UnixMicro()), entries, now)
	if err != nil {
		return 0, err
	}
	return 1, l.store.SaveCRL(ctx, list)
}
