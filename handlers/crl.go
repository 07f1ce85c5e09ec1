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
	RevokedEntries(ctx context.Context, authority certctl.ID, shard int) ([]certctl.RevokedEntry, error)
	GetCRL(ctx context.Context, authority certctl.ID, shard int) (certctl.CRL, error)
	SaveCRL(ctx context.Context, list certctl.CRL) error
	DueCRLs(ctx context.Context, ids []certctl.ID) ([]certctl.CRLJob, error)
	// FinishCRLs says when an authority's lists are due again, unless something
	// was revoked since the job was read.
	FinishCRLs(ctx context.Context, job certctl.CRLJob, next time.Time) error
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

// Handle signs those lists of the authorities that have changed or whose time
// has come.
func (l *Lists) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := l.store.DueCRLs(ctx, hint.IDs)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		now, err := l.store.Now(ctx)
		if err != nil {
			return err
		}
		if err := l.sign(ctx, job.Authority, now); err != nil {
			return err
		}
		if err := l.store.FinishCRLs(ctx, job, now.Add(ca.CRLRenewal)); err != nil {
			return err
		}
	}
	return nil
}

// sign signs the lists of one authority. One whose key is off line keeps the
// lists it has.
func (l *Lists) sign(ctx context.Context, stored certctl.Authority, now time.Time) error {
	if len(stored.SealedKey) == 0 {
		return nil
	}
	opened, err := l.authorities.Open(stored)
	if err != nil {
		return err
	}
	entries, err := l.store.RevokedEntries(ctx, stored.ID, certctl.CompleteCRL)
	if err != nil {
		return err
	}
	signed := 0
	if len(entries) <= maxCompleteCRL {
		if signed, err = l.signList(ctx, opened, certctl.CompleteCRL, entries, now); err != nil {
			return err
		}
	}
	if !IsRoot(stored) { // a root signs a handful of CAs: the complete list is enough
		n, err := l.signShards(ctx, opened, stored.Shards, entries, now)
		if err != nil {
			return err
		}
		signed += n
	}
	l.log.Info().Stringer("authority", stored.ID).Int("entries", len(entries)).Int("signed", signed).Msg("revocation lists signed")
	return nil
}

func (l *Lists) signShards(ctx context.Context, authority *ca.Authority, shards int, entries []certctl.RevokedEntry, now time.Time) (int, error) {
	byShard := make([][]certctl.RevokedEntry, shards)
	for _, entry := range entries {
		shard := ca.Shard(entry.Serial, shards)
		byShard[shard] = append(byShard[shard], entry)
	}
	signed := 0
	for shard, revoked := range byShard {
		n, err := l.signList(ctx, authority, shard, revoked, now)
		if err != nil {
			return signed, err
		}
		signed += n
	}
	return signed, nil
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
