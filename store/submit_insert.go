package store

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Lists go into statements as one text per row, separated by spaces, which none
// of their members can hold: PostgreSQL has no arrays of arrays.

// joined is a list in that form.
func joined[T any](list []T, text func(T) string) string {
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = text(item)
	}
	return strings.Join(texts, " ")
}

// insertCertificates stores the certificates of the submissions. Those whose
// names are taken fail, also by another one of the same call.
func (t *tx) insertCertificates(ctx context.Context, subs []*submission) error {
	subs = sound(subs)
	n := len(subs)
	ids, teams, profiles, policies := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	names, dns, ips, uris, emails := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	issuers, modes, sharings, owners := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	labels, statuses, reasons, chosen := make([]string, n), make([]string, n), make([]string, n), make([]bool, n)
	for i, s := range subs {
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		encoded, err := json.Marshal(s.Labels)
		if err != nil {
			return err
		}
		ids[i], teams[i], profiles[i], policies[i] = s.id, s.teamID, s.profile.ID, s.policy.id
		names[i], dns[i], uris[i], emails[i] = s.Name, strings.Join(s.Names.DNS, " "), strings.Join(s.Names.URI, " "), strings.Join(s.Names.Email, " ")
		ips[i], issuers[i] = joined(s.Names.IP, netip.Addr.String), joined(s.issuerIDs(), certctl.ID.String)
		modes[i], sharings[i], owners[i], labels[i] = string(s.KeyMode), string(s.Sharing), s.Owner, string(encoded)
		statuses[i], reasons[i], chosen[i] = string(s.status.status), s.status.reason, s.sharingChosen
	}
	var made []certctl.ID
	err := t.QueryRow(ctx, `
		with made as (
			insert into certificate (id, team_id, name, dns, ips, uris, emails, issuers, profile_id, policy_id, key_mode, sharing,
				owner, labels, status, status_reason, sharing_chosen)
			select id, team, name, string_to_array(dns, ' '), string_to_array(ips, ' ')::inet[], string_to_array(uris, ' '),
				string_to_array(emails, ' '), string_to_array(issuers, ' ')::uuid[], profile, policy, mode, sharing,
				owner, labels::jsonb, status, reason, chosen
			from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[],
				$10::uuid[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::boolean[])
				as c(id, team, name, dns, ips, uris, emails, issuers, profile, policy, mode, sharing, owner, labels, status, reason, chosen)
			order by team, name, id
			on conflict (team_id, name) where archived_at is null do nothing
			returning id)
		select array(select id from made)`,
		ids, teams, names, dns, ips, uris, emails, issuers, profiles, policies, modes, sharings, owners, labels, statuses, reasons, chosen).Scan(&made)
	if err != nil || len(made) == n {
		return err
	}
	kept := make(map[certctl.ID]bool, len(made))
	for _, id := range made {
		kept[id] = true
	}
	for _, s := range subs {
		if !kept[s.id] {
			s.err = nameConflict(certctl.ObjectCertificate, s.Name, nil)
		}
	}
	return nil
}

// insertHolders stores who will hold the keys.
func (t *tx) insertHolders(ctx context.Context, subs []*submission) error {
	var ids, certificates, agents, shared, members []certctl.ID
	var kinds []string
	for _, s := range subs {
		for _, h := range s.holders {
			for _, member := range h.members {
				shared, members = append(shared, h.id), append(members, member)
			}
			ids, certificates, agents = append(ids, h.id), append(certificates, s.id), append(agents, h.agent)
			kinds = append(kinds, string(h.kind))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := t.put(ctx, `
		insert into holder (id, certificate_id, kind, agent_id)
		select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[])`, ids, certificates, kinds, agents); err != nil {
		return err
	}
	return t.join(ctx, shared, members)
}

// insertBindings stores the bindings. A place that was taken since checkPlaces
// looked is a unique violation of binding_place.
func (t *tx) insertBindings(ctx context.Context, subs []*submission) error {
	var ids, certificates, targets, holders []certctl.ID
	var places, slots []string
	for _, s := range subs {
		for _, b := range s.bindings {
			ids, certificates, targets, holders = append(ids, b.id), append(certificates, s.id), append(targets, b.target.id), append(holders, b.holder)
			places, slots = append(places, b.place), append(slots, string(b.slot))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := t.put(ctx, `
		insert into binding (id, certificate_id, target_id, holder_id, place, slot)
		select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[]) order by 3, 5, 6`,
		ids, certificates, targets, holders, places, slots)
	return err
}

// spot is a place and slot on a target.
type spot struct {
	target certctl.ID
	place  string
	slot   certctl.Slot
}

// checkPlaces fails the submissions that want a place on a target which another
// certificate has, or an earlier one of the same call.
func (t *tx) checkPlaces(ctx context.Context, subs []*submission) error {
	wanted := map[spot]string{}
	for _, s := range sound(subs) {
		for _, b := range s.bindings {
			wanted[spot{b.target.id, b.place, b.slot}] = ""
		}
	}
	taken, err := t.takenSpots(ctx, wanted)
	if err != nil {
		return err
	}
	for _, s := range sound(subs) {
		if s.err = doubled(s.bindings); s.err != nil {
			continue
		}
		for i, b := range s.bindings {
			if user, ok := taken[spot{b.target.id, b.place, b.slot}]; ok {
				s.err = spotConflict("/targets/"+strconv.Itoa(i), b, user)
				break
			}
		}
		for _, b := range s.bindings {
			if s.err == nil {
				taken[spot{b.target.id, b.place, b.slot}] = s.Name
			}
		}
	}
	return nil
}

func doubled(bindings []plannedBinding) error {
	seen := make(map[spot]bool, len(bindings))
	for i, b := range bindings {
		at := spot{b.target.id, b.place, b.slot}
		if seen[at] {
			return certctl.InvalidField("/targets/"+strconv.Itoa(i), "the target %s is given twice with the same place and slot", b.target.name)
		}
		seen[at] = true
	}
	return nil
}

// takenSpots returns which of the spots are taken, and by whose certificate.
func (t *tx) takenSpots(ctx context.Context, wanted map[spot]string) (map[spot]string, error) {
	taken := map[spot]string{}
	if len(wanted) == 0 {
		return taken, nil
	}
	var targets []certctl.ID
	var places, slots []string
	for at := range wanted {
		targets, places, slots = append(targets, at.target), append(places, at.place), append(slots, string(at.slot))
	}
	rows, err := t.Query(ctx, `
		select b.target_id, b.place, b.slot, c.name
		from unnest($1::uuid[], $2::text[], $3::text[]) as want(target, place, slot)
		join binding b on b.target_id = want.target and b.place = want.place and b.slot = want.slot
		join certificate c on c.id = b.certificate_id
		where b.unbound_at is null`, targets, places, slots)
	if err != nil {
		return nil, err
	}
	var at spot
	var user string
	_, err = pgx.ForEachRow(rows, []any{&at.target, &at.place, &at.slot, &user}, func() error {
		taken[at] = user
		return nil
	})
	return taken, err
}

func spotConflict(field string, b plannedBinding, user string) error {
	e := certctl.Errorf(certctl.Conflict, "the place %s (slot %s) on the target %s holds the certificate %s", b.place, b.slot, b.target.name, user).
		WithRemedy("name another place, or unbind that certificate")
	e.Fields = []certctl.FieldError{{Field: field, Message: "the place is taken"}}
	return e
}
