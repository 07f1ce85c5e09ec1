package handlers

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// RolloverStore also lets authorities replace each other.
type RolloverStore interface {
	AuthorityStore
	LongestValidity(ctx context.Context) (time.Duration, error)
	ActivateNext(ctx context.Context, actor certctl.Actor, id certctl.ID) error
	RetireAuthorities(ctx context.Context, issuer certctl.ID) (int, error)
}

// Rollovers replace the authorities of local issuers in time: the next one is
// made and published, signs after an overlap, and the one before keeps its lists
// and OCSP until its last leaf has ended.
//
//	next ─(overlap)─► active ─► retiring ─(last leaf has ended)─► retired
type Rollovers struct {
	authorities *Authorities
	store       RolloverStore
	lists       *Lists
}

// NewRollovers returns them for the authorities of an installation. lists signs
// a new authority's first lists, and gives it a responder, before its first leaf.
func NewRollovers(authorities *Authorities, store RolloverStore, lists *Lists) *Rollovers {
	return &Rollovers{authorities: authorities, store: store, lists: lists}
}

// Look does for one issuer what is due: makes its next authority when twice the
// longest validity of a leaf is not left any more, lets it sign when its overlap
// has passed, and retires those whose last leaf has ended.
func (r *Rollovers) Look(ctx context.Context, issuer certctl.ID, options ca.Options) error {
	longest, err := r.store.LongestValidity(ctx)
	if err != nil {
		return err
	}
	return r.locked(ctx, issuer, func(ctx context.Context, s succession) error {
		if s.next == nil && s.active != nil && certctl.RolloverDue(s.active.NotBefore, s.active.NotAfter, longest, s.now) {
			next, err := r.make(ctx, s, options, certctl.RolloverOverlap)
			if err != nil {
				return err
			}
			s.next = &next
		}
		if s.next != nil && !s.next.ActivateAt.After(s.now) {
			if err := r.store.ActivateNext(ctx, certctl.SystemActor("signer"), s.next.ID); err != nil {
				return err
			}
		}
		_, err := r.store.RetireAuthorities(ctx, issuer)
		return err
	})
}

// Order makes an issuer's next authority now, or moves the one that there is: it
// signs after the overlap.
func (r *Rollovers) Order(ctx context.Context, issuer certctl.ID, options ca.Options, overlap time.Duration) (certctl.Authority, error) {
	var next certctl.Authority
	err := r.locked(ctx, issuer, func(ctx context.Context, s succession) (err error) {
		switch {
		case s.active == nil:
			return certctl.Errorf(certctl.Conflict, "this issuer has no authority yet: it gets one with the first start of the server")
		case s.next != nil && overlap > 0:
			return certctl.Errorf(certctl.Conflict, "the next authority is made already, and signs from %s on", s.next.ActivateAt.Format(time.RFC3339)).
				WithRemedy("--overlap 0s has it sign now")
		case s.next != nil:
			next = *s.next
		default:
			if next, err = r.make(ctx, s, options, overlap); err != nil {
				return err
			}
		}
		if overlap > 0 {
			return nil
		}
		next.State = certctl.AuthorityActive
		return r.store.ActivateNext(ctx, certctl.SystemActor("ca rollover"), next.ID)
	})
	return next, err
}

// succession is where an issuer stands.
type succession struct {
	issuer       certctl.ID
	now          time.Time
	active, next *certctl.Authority
	root         *certctl.Authority // of the active one
}

// locked reads an issuer's succession while no other replica changes it.
func (r *Rollovers) locked(ctx context.Context, issuer certctl.ID, do func(context.Context, succession) error) error {
	return r.store.LockedOnce(ctx, "authority-"+issuer.String(), func(ctx context.Context) error {
		s := succession{issuer: issuer}
		all, err := r.store.Authorities(ctx, issuer)
		if err != nil {
			return err
		}
		if s.now, err = r.store.Now(ctx); err != nil {
			return err
		}
		for i := range all {
			switch {
			case all[i].State == certctl.AuthorityNext:
				s.next = &all[i]
			case all[i].State == certctl.AuthorityActive && !IsRoot(all[i]):
				s.active = &all[i]
			}
		}
		for i := range all {
			if s.active != nil && all[i].ID == s.active.Parent {
				s.root = &all[i]
			}
		}
		return do(ctx, s)
	})
}

// make makes the next authority below the root of the active one.
func (r *Rollovers) make(ctx context.Context, s succession, options ca.Options, overlap time.Duration) (certctl.Authority, error) {
	if s.root == nil {
		return certctl.Authority{}, certctl.Errorf(certctl.Unavailable, "the authority of this issuer was signed by another CA, and so must its next one be").
			WithRemedy("certctl-server ca request, and ca install with what your CA answers")
	}
	if err := r.authorities.published(); err != nil {
		return certctl.Authority{}, err
	}
	key, err := r.authorities.openKey(*s.root)
	if err != nil {
		return certctl.Authority{}, err
	}
	root, err := x509.ParseCertificate(s.root.Certificate)
	if err != nil {
		return certctl.Authority{}, certctl.Wrap(certctl.Internal, err, "the certificate of root %s cannot be read", s.root.ID)
	}
	issuing, err := ca.NewIssuing(options, ca.Made{Certificate: root, Key: key}, ca.URL(s.root.PKIURL, s.root.ID), s.now)
	if err != nil {
		return certctl.Authority{}, err
	}
	next, err := r.authorities.record(s.issuer, issuing, s.now)
	if err != nil {
		return next, err
	}
	next.State, next.ActivateAt = certctl.AuthorityNext, s.now.Add(overlap)
	next.Parent, next.Chain = s.root.ID, certctl.Chain{issuing.Certificate.Raw}
	if err := r.store.AddAuthorities(ctx, certctl.SystemActor("signer"), []certctl.Authority{next}); err != nil {
		return next, err
	}
	return next, r.lists.Handle(ctx, certctl.Hint{Verb: certctl.HintCRL, IDs: []certctl.ID{next.ID}})
}
