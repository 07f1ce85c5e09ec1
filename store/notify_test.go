package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// hears makes a channel with rules.
func (w *world) hears(name string, rules ...certctl.ChannelRule) certctl.Channel {
	w.t.Helper()
	c, err := w.CreateChannel(w.ctx, w.admin, certctl.ChannelRequest{Name: name, Kind: "webhook", Rules: rules})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// notified returns the names of the events that a channel has not been told yet,
// oldest first.
func (w *world) notified(channel certctl.Channel) (names []string) {
	w.t.Helper()
	page, err := w.ListNotifications(w.ctx, w.admin, certctl.NotificationFilter{Channel: channel.Name, State: certctl.NotificationPending})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(page.Items, func(a, b certctl.Notification) int { return strings.Compare(a.Event.ID.String(), b.Event.ID.String()) })
	for _, n := range page.Items {
		name := string(n.Event.Name)
		if n.Ends {
			name += " ends"
		}
		names = append(names, name)
	}
	return names
}

// tell begins the delivery of all that is pending.
func (w *world) tell(lease time.Duration) []certctl.Delivery {
	w.t.Helper()
	page, err := w.ListNotifications(w.ctx, w.admin, certctl.NotificationFilter{State: certctl.NotificationPending})
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []certctl.ID
	for _, n := range page.Items {
		ids = append(ids, n.ID)
	}
	deliveries, err := w.BeginDeliveries(w.ctx, ids, lease)
	if err != nil {
		w.t.Fatal(err)
	}
	return deliveries
}

// told ends a delivery, all of it with one outcome.
func (w *world) told(d certctl.Delivery, outcome error) {
	w.t.Helper()
	errs := make([]error, len(d.Notifications))
	for i := range errs {
		errs[i] = outcome
	}
	if err := w.FinishDelivery(w.ctx, certctl.DeliveryEnd{Delivery: d, Errs: errs}); err != nil {
		w.t.Fatal(err)
	}
}

func TestAChannelIsToldWhatItsRulesSelect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.hears("all", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	trouble := w.hears("trouble") // by default: warnings and worse
	named := w.hears("named", certctl.ChannelRule{Events: []certctl.EventName{certctl.EventCertificateArchived}})
	labelled := w.hears("labelled", certctl.ChannelRule{Severity: certctl.SeverityInfo, Labels: map[string]string{"env": "prod"}})
	owned := w.hears("owned", certctl.ChannelRule{Severity: certctl.SeverityInfo, Owner: "shop@example.com"})
	w.exec(`delete from due where kind = 'notification'`)
	w.exec(`delete from notification`)

	w.target("one")
	request := request("shop", "one")
	request.Labels, request.Owner = map[string]string{"env": "prod", "tier": "1"}, "shop@example.com"
	c := w.submit(request)
	w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csrFor(t, "mail.example.com")})
	if err := w.ArchiveCertificate(w.ctx, w.admin, c.ID.String()); err != nil {
		t.Fatal(err)
	}

	got := w.notified(labelled)
	if want := []string{"certificate_created", "order_created", "certificate_archived"}; !containsAll(got, want) || len(got) > 5 {
		t.Errorf("by label: %v", got)
	}
	if mine := w.notified(owned); !slices.Equal(mine, got) {
		t.Errorf("by owner: %v, by label %v", mine, got)
	}
	if got := w.notified(named); !slices.Equal(got, []string{"certificate_archived"}) {
		t.Errorf("by name: %v", got)
	}
	if got := w.notified(trouble); len(got) != 0 {
		t.Errorf("warnings: %v", got)
	}
	if n := len(w.notified(all)); n <= len(got) {
		t.Errorf("all: %d, of one certificate %d", n, len(got))
	}
	// Each notification is a row that somebody has to look at.
	if pending, due := w.count(`select count(*) from notification`), w.count(`select count(*) from due where kind = 'notification' and verb = 'notify'`); pending != due {
		t.Errorf("%d notifications, %d due", pending, due)
	}
}

func containsAll(list, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(name string) bool { return !slices.Contains(list, name) })
}

func TestAChannelOfATeamHearsOfThatTeamAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.team("red")
	red := w.member("red", certctl.RoleAdmin)
	mine, err := w.CreateChannel(w.ctx, red, certctl.ChannelRequest{Name: "mine", Kind: "webhook", Rules: []certctl.ChannelRule{{Severity: certctl.SeverityInfo}}})
	if err != nil {
		t.Fatal(err)
	}
	everybody := w.hears("everybody", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	only := w.hears("only", certctl.ChannelRule{Severity: certctl.SeverityInfo, Team: "red"})
	_, err = w.CreateChannel(w.ctx, red, certctl.ChannelRequest{Name: "spy", Kind: "webhook", Rules: []certctl.ChannelRule{{Team: "default"}}})
	if certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a channel of red with another team's events: %v", err)
	}
	w.exec(`delete from notification`)

	if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, certctl.RenewalPolicy{Name: "ours", AutoRenew: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRenewalPolicy(w.ctx, red, certctl.RenewalPolicy{Name: "theirs", AutoRenew: true}); err != nil {
		t.Fatal(err)
	}

	if n := w.count(`select count(*) from notification where channel_id = $1`, mine.ID); n != 1 {
		t.Errorf("the channel of red was told of %d", n)
	}
	if got := w.notified(everybody); len(got) != 2 {
		t.Errorf("the channel for all was told %v", got)
	}
	if got := w.notified(only); len(got) != 1 {
		t.Errorf("the channel for red was told %v", got)
	}
	if _, err := w.GetChannel(w.ctx, red, everybody.ID.String()); certctl.ErrorCode(err) != certctl.NotFound {
		t.Errorf("red sees a channel of the default team: %v", err)
	}
}

// A trouble is told once, again when it got worse or a day later, and so is its
// end, to those who know of it.
func TestATroubleIsToldOnceAndSoIsItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	channel := w.hears("ops")
	w.exec(`delete from notification`)

	w.repeat(certctl.EventIssuerDown)
	if got := w.notified(channel); !slices.Equal(got, []string{"issuer_down"}) {
		t.Fatalf("told %v", got)
	}
	late := w.hears("late")
	w.repeat(certctl.EventIssuerDown)
	if got := w.notified(channel); len(got) != 1 {
		t.Errorf("the same again: told %v", got)
	}
	w.exec(`update channel_trouble set told_at = now() - interval '25 hours' where channel_id = $1`, channel.ID)
	w.repeat(certctl.EventIssuerDown)
	if got := w.notified(channel); !slices.Equal(got, []string{"issuer_down", "issuer_down"}) {
		t.Errorf("a day later: told %v", got)
	}
	w.exec(`delete from channel_trouble where channel_id = $1`, late.ID)

	w.repeat(certctl.EventIssuerUp)
	if got := w.notified(channel); !slices.Equal(got, []string{"issuer_down", "issuer_down", "issuer_up ends"}) {
		t.Errorf("at the end: told %v", got)
	}
	if got := w.notified(late); slices.Contains(got, "issuer_up ends") {
		t.Errorf("who knew nothing was told of the end: %v", got)
	}
	w.repeat(certctl.EventIssuerUp)
	if got := w.notified(channel); len(got) != 3 {
		t.Errorf("the end twice: told %v", got)
	}
}

// repeat has the store write an event of the world's issuer.
func (w *world) repeat(name certctl.EventName) {
	w.t.Helper()
	if err := w.AppendEvent(w.ctx, certctl.DefaultTeam, certctl.AggregateIssuer, w.issuer.ID, name); err != nil {
		w.t.Fatal(err)
	}
}

func TestADeliveryTakesAllThatIsDueToAChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	w.repeat(certctl.EventIssuerPaused)
	w.repeat(certctl.EventIssuerResumed)

	first := w.tell(time.Minute)
	if len(first) != 1 || len(first[0].Notifications) != 2 || first[0].Notifications[0].Event.Name != certctl.EventIssuerPaused {
		t.Fatalf("began %+v", first)
	}
	if again := w.tell(time.Minute); len(again) != 0 {
		t.Errorf("while it is told, somebody else tells %+v", again)
	}
	w.repeat(certctl.EventIssuerPaused) // while the channel is told
	w.told(first[0], nil)
	second := w.tell(time.Minute)
	if len(second) != 1 || len(second[0].Notifications) != 1 || second[0].Number != first[0].Number+1 {
		t.Fatalf("then began %+v", second)
	}
	w.told(second[0], nil)
	if n := w.count(`select count(*) from due where kind = 'notification'`); n != 0 {
		t.Errorf("%d are still due", n)
	}
	if c, err := w.GetChannel(w.ctx, w.admin, "ops"); err != nil || c.DeliveredAt.IsZero() || c.Failures != 0 {
		t.Errorf("the channel: %+v %v", c, err)
	}
}

// Who died while he told a channel may have told it or not: it is told again, and
// his late word changes nothing.
func TestADeliveryThatNobodyEndsIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	w.repeat(certctl.EventIssuerPaused)
	lost := w.tell(0)
	w.exec(`update channel set busy_until = now() - interval '1 second'`)
	again := w.tell(time.Minute)
	if len(again) != 1 || len(again[0].Notifications) != 1 {
		t.Fatalf("began %+v", again)
	}
	w.told(lost[0], errors.New("late"))
	if n := w.count(`select tries from notification`); n != 0 {
		t.Errorf("the late word counted: %d tries", n)
	}
	w.told(again[0], nil)
	if n := w.count(`select count(*) from notification where state = 'delivered'`); n != 1 {
		t.Errorf("%d delivered", n)
	}
}

func TestWhatAChannelDoesNotTakeIsToldAgainAndGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	other := w.hears("other", certctl.ChannelRule{Events: []certctl.EventName{certctl.EventNotificationFailed}})
	w.exec(`delete from notification`)
	w.repeat(certctl.EventIssuerPaused)

	down := certctl.Errorf(certctl.Unavailable, "it does not answer")
	w.told(w.tell(time.Minute)[0], down)
	if waiting := w.tell(time.Minute); len(waiting) != 0 {
		t.Errorf("it is told before its wait has ended: %+v", waiting)
	}
	c, err := w.GetChannel(w.ctx, w.admin, "ops")
	if err != nil || c.Failures != 1 || c.Message != "it does not answer" {
		t.Errorf("the channel: %+v %v", c, err)
	}
	w.repeat(certctl.EventIssuerResumed) // waits with the other
	if n := w.count(`select count(*) from due where kind = 'notification' and due_at > now() + interval '50 seconds'`); n != 2 {
		t.Errorf("%d of 2 wait", n)
	}
	w.exec(`update channel set wait_until = null`)
	w.exec(`update due set due_at = now() where kind = 'notification'`)
	w.exec(`update notification set tries = 11 where tries = 1`)
	w.told(w.tell(time.Minute)[0], down)

	if failed, pending := w.count(`select count(*) from notification where state = 'failed'`), w.notified(c); failed != 1 || len(pending) != 1 {
		t.Errorf("%d given up, %v pending", failed, pending)
	}
	if got := w.notified(other); !slices.Equal(got, []string{"notification_failed"}) {
		t.Errorf("another channel was told %v", got)
	}
	page, err := w.ListNotifications(w.ctx, w.admin, certctl.NotificationFilter{State: certctl.NotificationFailed})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v %v", page, err)
	}
	if err := w.ReplayNotification(w.ctx, w.admin, page.Items[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := w.ReplayNotification(w.ctx, w.admin, page.Items[0].ID); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("replayed twice: %v", err)
	}
	if got := w.notified(c); len(got) != 2 {
		t.Errorf("after the replay %v", got)
	}
}

// What a channel refuses as such is given up at once and holds up nothing.
func TestWhatAChannelRefusesHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	w.repeat(certctl.EventIssuerPaused)
	w.repeat(certctl.EventIssuerResumed)
	d := w.tell(time.Minute)[0]
	if err := w.FinishDelivery(w.ctx, certctl.DeliveryEnd{Delivery: d, Errs: []error{certctl.Errorf(certctl.Invalid, "no"), nil}}); err != nil {
		t.Fatal(err)
	}
	if got := w.notified(c); len(got) != 0 {
		t.Errorf("pending %v", got)
	}
	if c, _ = w.GetChannel(w.ctx, w.admin, "ops"); c.Failures != 0 {
		t.Errorf("the channel waits: %+v", c)
	}
}

func TestADigestWaitsForItsTimeOfDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	zone, err := time.LoadLocation("Asia/Kathmandu") // UTC+5:45
	if err != nil {
		t.Fatal(err)
	}
	now, err := w.Now(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := now.In(zone).Add(3 * time.Hour).Truncate(time.Minute)
	_, err = w.CreateChannel(w.ctx, w.admin, certctl.ChannelRequest{
		Name: "daily", Kind: "email", DigestAt: at.Format("15:04"), DigestZone: "Asia/Kathmandu", Rules: []certctl.ChannelRule{{Severity: certctl.SeverityInfo}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.repeat(certctl.EventIssuerPaused)
	if got := w.tell(time.Minute); len(got) == 1 && len(got[0].Notifications) > 0 {
		t.Errorf("told at once: %+v", got)
	}
	var due time.Time
	if err := w.Pool().QueryRow(w.ctx, `select due_at from due where kind = 'notification'`).Scan(&due); err != nil || !due.Equal(at) {
		t.Errorf("due at %v, want %v (%v)", due, at, err)
	}
}

func TestATestIsToldToItsChannelAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	quiet := w.hears("quiet", certctl.ChannelRule{Severity: certctl.SeverityCritical})
	w.exec(`delete from notification`)
	n, err := w.TestChannel(w.ctx, w.admin, "quiet")
	if err != nil || n.Event.Name != certctl.EventChannelTested || n.State != certctl.NotificationPending || n.DueAt.IsZero() {
		t.Fatalf("%+v %v", n, err)
	}
	if got := w.notified(quiet); !slices.Equal(got, []string{"channel_tested"}) {
		t.Errorf("told %v", got)
	}
	if _, err := w.TestChannel(w.ctx, w.member(certctl.DefaultTeam, certctl.RoleViewer), "quiet"); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a viewer tests: %v", err)
	}
}

func TestAnArchivedChannelIsToldNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.hears("ops", certctl.ChannelRule{Severity: certctl.SeverityInfo})
	w.repeat(certctl.EventIssuerPaused)
	if err := w.ArchiveChannel(w.ctx, w.admin, "ops"); err != nil {
		t.Fatal(err)
	}
	w.repeat(certctl.EventIssuerResumed)
	if n := w.count(`select count(*) from notification where channel_id = $1 and state <> 'discarded'`, c.ID); n != 0 {
		t.Errorf("%d to be told", n)
	}
	if n := w.count(`select count(*) from due where kind = 'notification'`); n != 0 {
		t.Errorf("%d due", n)
	}
	w.hears("ops") // its name is free
}
