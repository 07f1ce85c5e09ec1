package handlers

import (
	"context"
	"crypto/x509"
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
	GetResponder(ctx context.Context, authority certctl.ID) (certctl.Responder, error)
	SaveResponder(ctx context.Context, responder certctl.Responder) error
	DueCRLs(ctx context.Context, ids []certctl.ID) ([]certctl.CRLJob, error)
	// FinishCRLs says when an authority's lists are due again, unless something
	// was revoked since the job was read.
	FinishCRLs(ctx context.Context, job certctl.CRLJob, next time.Time) error
}

// Lists signs revocation lists: anew daily, and at once after a change. On the
// way it looks after the authority's OCSP responder.
type Lists struct {
	store       CRLStore
	authorities *Authorities
	pki         Sealer // of responders' keys
	log         zerolog.Logger
}

// NewLists returns the handler.
func NewLists(store CRLStore, authorities *Authorities, pki Sealer, log zerolog.Logger) *Lists {
	return &Lists{store: store, authorities: authorities, pki: pki, log: log}
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

// Incomplete returns the authorities that lack their first lists, or a responder
// that this installation can use.
func (l *Lists) Incomplete(ctx context.Context) ([]certctl.ID, error) {
	all, err := l.store.Authorities(ctx, certctl.NoID)
	if err != nil {
		return nil, err
	}
	now, err := l.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	var without []certctl.ID
	for _, authority := range all {
		_, err := l.store.GetCRL(ctx, authority.ID, certctl.CompleteCRL)
		if err == nil && !IsRoot(authority) {
			var responder certctl.Responder
			if responder, err = l.store.GetResponder(ctx, authority.ID); err == nil && !l.usable(responder, now) {
				without = append(without, authority.ID)
			}
		}
		switch {
		case certctl.ErrorCode(err) == certctl.NotFound:
			without = append(without, authority.ID)
		case err != nil:
			return nil, err
		}
	}
	return without, nil
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
		if err := l.delegate(ctx, opened, now); err != nil {
			return err
		}
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

// delegate gives the authority an OCSP responder: the first, a new one when half
// of its life has passed, or one whose key this installation can open.
func (l *Lists) delegate(ctx context.Context, authority *ca.Authority, now time.Time) error {
	last, err := l.store.GetResponder(ctx, authority.ID)
	if err != nil && certctl.ErrorCode(err) != certctl.NotFound {
		return err
	}
	if err == nil && l.usable(last, now) {
		return nil
	}
	made, err := authority.NewResponder(now)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(made.Key)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the responder's key cannot be encoded")
	}
	sealed, err := l.pki.Seal("responder", authority.ID, "sealed_key", encoded)
	if err != nil {
		return err
	}
	l.log.Info().Stringer("authority", authority.ID).Time("not_after", made.Certificate.NotAfter).Msg("OCSP responder made")
	return l.store.SaveResponder(ctx, certctl.Responder{
		Authority: authority.ID, Certificate: made.Certificate.Raw, SealedKey: sealed,
		NotBefore: made.Certificate.NotBefore, NotAfter: made.Certificate.NotAfter,
	})
}

// usable reports whether a responder needs no successor yet. One near its
// authority's end has none that would live longer.
func (l *Lists) usable(r certctl.Responder, now time.Time) bool {
	if _, err := l.pki.Open("responder", r.Authority, "sealed_key", r.SealedKey); err != nil {
		return false
	}
	return now.Before(r.NotBefore.Add(r.NotAfter.Sub(r.NotBefore) / 2))
}
