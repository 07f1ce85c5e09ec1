package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// held is a live certificate that the transaction has locked, with its live
// holders and bindings: nobody else changes any of them until the commit.
type held struct {
	found
	purpose  certctl.VersionPurpose
	names    certctl.Names
	revision int64
	issuers  []certctl.ID
	profile  certctl.ID
	policy   certctl.ID
	paused   bool
	keyMode  certctl.KeyMode
	sharing  certctl.Sharing
	holders  []heldHolder
	bindings []heldBinding

	sharingChosen bool // by a person
}

// heldHolder is a holder that has not ended, with what it holds now.
type heldHolder struct {
	id      certctl.ID
	kind    certctl.HolderKind
	agent   certctl.ID
	version certctl.ID // the newest
	sealed  bool       // its key came with an import
}

// heldBinding is a live binding.
type heldBinding struct {
	id, target, agent, holder certctl.ID
	targetName                string
}

func (h *held) monitored() bool { return len(h.issuers) == 0 }

// holderOf returns the holder of an agent, or nil.
func (h *held) holderOf(agent certctl.ID) *heldHolder {
	for i := range h.holders {
		if h.holders[i].agent == agent {
			return &h.holders[i]
		}
	}
	return nil
}

// hold finds a certificate, authorises the actor for the verb and locks it for
// a change. Archived certificates and the platform's own do not change.
func (t *tx) hold(ctx context.Context, verb certctl.Verb, ref string) (*held, error) {
	f, err := t.one(ctx, certctl.ObjectCertificate, verb, ref)
	if err != nil {
		return nil, err
	}
	h := &held{found: f}
	err = t.QueryRow(ctx, `
		select purpose, dns, ips, uris, emails, revision, issuers, profile_id, policy_id, key_mode, sharing, sharing_chosen, owner, labels, paused, archived_at is not null
		from certificate where id = $1 for no key update`, f.id).
		Scan(&h.purpose, &h.names.DNS, &h.names.IP, &h.names.URI, &h.names.Email, &h.revision, &h.issuers, &h.profile, &h.policy,
			&h.keyMode, &h.sharing, &h.sharingChosen, &h.owner, &h.labels, &h.paused, &h.archived)
	switch {
	case err != nil:
		return nil, err
	case h.archived:
		return nil, isArchived(certctl.ObjectCertificate, h.name)
	case h.purpose == certctl.PurposeSystem:
		return nil, certctl.Errorf(certctl.Conflict, "%s is the platform's own certificate, which it manages by itself", h.name)
	}
	if err := t.holdHolders(ctx, h); err != nil {
		return nil, err
	}
	return h, t.holdBindings(ctx, h)
}

func (t *tx) holdHolders(ctx context.Context, h *held) error {
	rows, err := t.Query(ctx, `
		select id, kind, agent_id, version_id, sealed_key is not null from holder
		where certificate_id = $1 and ended_at is null order by id for no key update`, h.id)
	if err != nil {
		return err
	}
	h.holders, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x heldHolder, err error) {
		return x, row.Scan(&x.id, &x.kind, &x.agent, &x.version, &x.sealed)
	})
	return err
}

func (t *tx) holdBindings(ctx context.Context, h *held) error {
	rows, err := t.Query(ctx, `
		select b.id, b.target_id, target.agent_id, b.holder_id, target.name
		from binding b join target on target.id = b.target_id
		where b.certificate_id = $1 and b.unbound_at is null order by b.id for no key update of b`, h.id)
	if err != nil {
		return err
	}
	h.bindings, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x heldBinding, err error) {
		return x, row.Scan(&x.id, &x.target, &x.agent, &x.holder, &x.targetName)
	})
	return err
}
