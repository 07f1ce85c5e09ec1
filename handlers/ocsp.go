package handlers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// OCSPStore knows responders and what they answer.
type OCSPStore interface {
	AuthorityByID(ctx context.Context, id certctl.ID) (certctl.Authority, error)
	GetResponder(ctx context.Context, authority certctl.ID) (certctl.Responder, error)
	// SerialStatuses returns what is known of serial numbers, and when.
	SerialStatuses(ctx context.Context, authority certctl.ID, serials []certctl.Serial) (map[certctl.Serial]certctl.SerialStatus, time.Time, error)
	// Recovering reports whether what was issued is not all known again yet.
	Recovering(ctx context.Context) (bool, error)
}

// OCSP answers whether leaves of our authorities are revoked. Each answer is
// read from the database when it is asked for, so that a revocation is seen at
// once; only the responders, with their keys, are kept in memory.
type OCSP struct {
	store  OCSPStore
	sealer Sealer // of the "pki" KEK

	mu         sync.Mutex
	responders map[certctl.ID]openResponder
}

type openResponder struct {
	*ca.Responder
	until time.Time
}

// responderMemory is how long a responder is used before the newest is looked
// up: a small part of what remains of one when it is renewed.
const responderMemory = time.Hour

// NewOCSP returns the handler.
func NewOCSP(store OCSPStore, sealer Sealer) *OCSP {
	return &OCSP{store: store, sealer: sealer, responders: map[certctl.ID]openResponder{}}
}

// Answer answers a request (DER) about leaves of an authority. A refusal is an
// answer, too: unsigned, and with no times. The error, if any, is for the log.
func (o *OCSP) Answer(ctx context.Context, authority certctl.ID, request []byte) (certctl.OCSPAnswer, error) {
	answer, err := o.answer(ctx, authority, request)
	if err == nil {
		return answer, nil
	}
	var status ca.OCSPStatus
	if errors.As(err, &status) {
		return certctl.OCSPAnswer{DER: status.Refusal()}, nil
	}
	switch certctl.ErrorCode(err) {
	case certctl.NotFound:
		return certctl.OCSPAnswer{DER: ca.OCSPUnauthorized.Refusal()}, nil
	case certctl.Unavailable:
		return certctl.OCSPAnswer{DER: ca.OCSPTryLater.Refusal()}, err
	}
	return certctl.OCSPAnswer{DER: ca.OCSPInternal.Refusal()}, err
}

func (o *OCSP) answer(ctx context.Context, authority certctl.ID, der []byte) (certctl.OCSPAnswer, error) {
	request, err := ca.ParseOCSPRequest(der)
	if err != nil {
		return certctl.OCSPAnswer{}, err
	}
	responder, err := o.responder(ctx, authority)
	if err != nil {
		return certctl.OCSPAnswer{}, err
	}
	if err := responder.Answers(request); err != nil {
		return certctl.OCSPAnswer{}, err
	}
	known, now, err := o.store.SerialStatuses(ctx, authority, request.Serials())
	if err != nil {
		return certctl.OCSPAnswer{}, err
	}
	for _, serial := range request.Serials() {
		if known[serial].Known {
			continue
		}
		// "Unknown" would be a lie about a leaf that was issued after the backup.
		recovering, err := o.store.Recovering(ctx)
		if err != nil {
			return certctl.OCSPAnswer{}, err
		}
		if recovering {
			return certctl.OCSPAnswer{}, ca.OCSPTryLater
		}
		break
	}
	return responder.Respond(request, known, now)
}

// responder returns the authority's responder from memory, or opens the stored
// one. Without one, which a signer makes within moments, it is Unavailable.
func (o *OCSP) responder(ctx context.Context, authority certctl.ID) (*ca.Responder, error) {
	o.mu.Lock()
	kept, ok := o.responders[authority]
	o.mu.Unlock()
	now := time.Now()
	if ok && now.Before(kept.until) {
		return kept.Responder, nil
	}
	opened, err := o.open(ctx, authority)
	if err != nil {
		return nil, err
	}
	if now.After(opened.NotAfter()) {
		return nil, certctl.Errorf(certctl.Unavailable, "the OCSP responder of authority %s has expired", authority).
			WithRemedy("a process with the role signer renews it: see whether one runs")
	}
	o.mu.Lock()
	o.responders[authority] = openResponder{opened, now.Add(responderMemory)}
	o.mu.Unlock()
	return opened, nil
}

func (o *OCSP) open(ctx context.Context, id certctl.ID) (*ca.Responder, error) {
	authority, err := o.store.AuthorityByID(ctx, id)
	if err != nil {
		return nil, err
	}
	stored, err := o.store.GetResponder(ctx, id)
	if certctl.ErrorCode(err) == certctl.NotFound && len(authority.SealedKey) > 0 && !IsRoot(authority) {
		return nil, certctl.Errorf(certctl.Unavailable, "authority %s has no OCSP responder yet", id)
	}
	if err != nil {
		return nil, err
	}
	encoded, err := o.sealer.Open("responder", id, "sealed_key", stored.SealedKey)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the OCSP responder's key cannot be opened")
	}
	key, err := ca.ParseKey(encoded)
	if err != nil {
		return nil, err
	}
	return ca.LoadResponder(stored.Certificate, key, authority.Certificate)
}
