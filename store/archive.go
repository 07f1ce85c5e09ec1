package store

import (
	"context"

	"github.com/certctl/certctl"
)

// ArchiveCertificate ends the management of a certificate: open orders are
// cancelled, targets unbound (what they serve stays), holders ended. Its
// versions stay known and revocable; its name is free again.
func (s *Store) ArchiveCertificate(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbDelete, ref)
		if err != nil {
			return err
		}
		if err := t.unbind(ctx, h, h.bindings, false); err != nil {
			return err
		}
		holders := make([]certctl.ID, len(h.holders))
		for i, holder := range h.holders {
			holders[i] = holder.id
		}
		if err := t.endHolders(ctx, h, holders); err != nil {
			return err
		}
		if err := t.put(ctx, `update certificate set archived_at = now(), updated_at = now() where id = $1`, h.id); err != nil {
			return err
		}
		t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateArchived, map[string]any{
			"certificate": h.id, "name": h.name,
		})
		return t.refreshStatus(ctx, h.id)
	})
}
