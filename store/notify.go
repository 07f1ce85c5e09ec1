package store

import (
	"context"

	"github.com/certctl/certctl"
)

const dueNotification = "notification"

// notify writes whom the noted events are told to, as one statement for all of
// them: where no channel has a rule it finds nothing and costs next to nothing.
//
// A trouble that a channel knows is told again when it got worse, when it is at
// another stage, or after a day. Its end is told to those that know it. Nothing is
// told of a channel to itself.
//
// Troubles belong to the object of their event, whose place in event_head the
// transaction holds: two transactions never meet at one.
func (t *tx) notify(ctx context.Context, events []certctl.Event) error {
	var ids, objects []certctl.ID
	var teams, names, aggregates []string
	var severities []int16
	var of, keys []string // parallel: an event's id as text, and its troubles
	var ends, again []bool
	for i := range events {
		e := &events[i]
		ids, objects, teams = append(ids, e.ID), append(objects, e.Object), append(teams, e.Team)
		names, aggregates = append(names, string(e.Name)), append(aggregates, string(e.Aggregate))
		severities = append(severities, int16(e.Severity())) //nolint:gosec // one of four
		for _, trouble := range e.Troubles() {
			of, keys = append(of, e.ID.String()), append(keys, trouble.Key)
			ends, again = append(ends, trouble.Ends), append(again, trouble.Again)
		}
	}
	return t.put(ctx, notifySQL,
		ids, objects, teams, names, aggregates, severities, of, keys, ends, again,
		int16(certctl.SeverityError), int16(certctl.UrgencyNow), int16(certctl.UrgencyNormal))
}

// notifySQL finds, of the events and troubles given, who is told of which, and
// makes what is to be told due.
const notifySQL = `
	with e as materialized (
		select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::smallint[])
			as e(id, object, team, name, aggregate, severity)),
	trouble as materialized (
		select x.key, x.ends, x.again, e.* from unnest($7::uuid[], $8::text[], $9::boolean[], $10::boolean[]) as x(event, key, ends, again)
		join e on e.id = x.event),
	selected as materialized (
		select distinct e.id, c.id as channel
		from channel_rule r
		join channel c on c.id = r.channel_id and c.archived_at is null
		join team on team.id = c.team_id
		join e on e.severity >= r.severity and (r.events = '{}' or e.name = any(r.events)) and e.object <> c.id
			and (team.name in ('` + certctl.DefaultTeam + `', e.team)) and r.team in ('', e.team)
		left join certificate o on e.aggregate = 'certificate' and o.id = e.object
		where (r.labels = '{}' or o.labels @> r.labels) and (r.owner = '' or o.owner = r.owner)),
	begun as (
		insert into channel_trouble as known (object_id, key, channel_id, severity, event_id)
		select distinct on (b.object, b.key, s.channel) b.object, b.key, s.channel, b.severity, b.id
		from trouble b join selected s on s.id = b.id where not b.ends order by b.object, b.key, s.channel, b.severity desc, b.id desc
		on conflict (object_id, key, channel_id) do update set severity = excluded.severity, event_id = excluded.event_id, told_at = now()
			where excluded.severity > known.severity or known.told_at < now() - interval '1 day'
				or excluded.event_id in (select id from trouble where again)
		returning event_id, channel_id),
	ended as (
		delete from channel_trouble known using trouble x
		where x.ends and known.object_id = x.object and (x.key = '' or known.key = x.key)
		returning x.id, known.channel_id, known.key),
	told as (
		insert into notification (id, channel_id, event_id, severity, ends, keys)
		select uuid7(), n.channel, e.id, e.severity, n.ends,
			case when n.ends then n.keys else array(select key from trouble where id = e.id and not ends) end
		from (
			select s.channel, s.id, false as ends, null::text[] as keys from selected s
			where not exists (select from trouble where id = s.id and not ends)
				and not exists (select from ended where ended.id = s.id and ended.channel_id = s.channel)
			union all
			select channel_id, event_id, false, null from begun
			union all
			select channel_id, id, true, array_agg(distinct key) from ended group by channel_id, id) n
		join e on e.id = n.id
		on conflict (event_id, channel_id) do nothing
		returning id, channel_id, severity)
	insert into due (kind, id, verb, lane, urgency, due_at)
	select '` + dueNotification + `', told.id, '` + string(certctl.HintNotify) + `', '` + certctl.NoLane + `',
		case when told.severity >= $11::smallint then $12::smallint else $13::smallint end, channel_due(c)
	from told join channel c on c.id = told.channel_id`
