package handlers_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// persistWorld proves names below example.org with records that stand.
type persistWorld struct {
	*acmeWorld
	worker *replica
}

func newPersist(t *testing.T, until time.Time) *persistWorld {
	t.Helper()
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Rules = []acme.Rule{{Type: "dns-persist-01", Names: []string{"*.example.org"}, Until: until}, {Type: "http-01"}}
	})
	return &persistWorld{w, w.worker("a", immortal)}
}

// record is the one record of a certificate.
func (w *persistWorld) record(c certctl.Certificate) certctl.ValidationRecord {
	w.t.Helper()
	all, err := w.ListValidationRecords(w.ctx, w.admin, c.Name)
	w.must(err)
	if len(all) != 1 {
		w.t.Fatalf("%+v", all)
	}
	return all[0]
}

// asked works until an order waits for its record to be published, and has been
// looked at since.
func (w *persistWorld) asked(c certctl.Certificate, says string) {
	w.t.Helper()
	w.until(says, always(w.worker), func() bool {
		o := w.order(c)
		return o.Wait == certctl.WaitRecord && strings.Contains(o.Message, says)
	})
}

// look is a look at the record.
func (w *persistWorld) look(r certctl.ValidationRecord) {
	w.t.Helper()
	w.must(w.worker.records.Handle(w.ctx, certctl.Hint{Verb: certctl.HintRecords, IDs: []certctl.ID{r.ID}}))
}

// preflight is what is said of a name before its CA is asked.
func (w *persistWorld) preflight(name string, records ...certctl.ValidationRecord) certctl.PreflightCheck {
	w.t.Helper()
	checks, err := acme.Preflight{Resolver: w.pebble.DNS.Address, Records: records}.Run(w.ctx, w.ca, certctl.Names{DNS: []string{name}})
	w.must(err)
	return checks[len(checks)-1]
}

// told is how often people were told, by what.
func (w *persistWorld) told() string {
	w.t.Helper()
	return fmt.Sprint(w.count(`select count(*) from event where name = 'validation_record_missing'`), " ",
		w.count(`select count(*) from event where name = 'validation_record_expiring'`), " ",
		w.count(`select count(*) from event where name = 'validation_record_settled'`))
}

func (w *persistWorld) tells(want string) {
	w.t.Helper()
	if got := w.told(); got != want {
		w.t.Errorf("told of missing, ending, settled records: %s times, want %s", got, want)
	}
}

// An order waits until somebody has published what proves its names, without an
// order at the CA; what is there and does not prove them is named. The record stays
// and proves the next order at once.
func TestARecordThatStandsProvesNames(t *testing.T) {
	t.Parallel()
	w := newPersist(t, time.Time{})
	shop, _ := w.orderFor("shop", "shop.example.org", "*.shop.example.org")
	w.asked(shop, "it is not there")
	r := w.record(shop)
	if r.Record != "_validation-persist.shop.example.org" || r.State != certctl.RecordMissing || !r.Terms.Wildcard ||
		!strings.HasPrefix(r.Value, "pebble.letsencrypt.org; accounturi="+strings.TrimSuffix(w.pebble.Directory, "/dir")) ||
		!strings.HasSuffix(r.Value, "; policy=wildcard") {
		t.Errorf("%+v", r)
	}
	if o := w.order(shop); !strings.Contains(o.Message, `Publish _validation-persist.shop.example.org. TXT "`+r.Value+`"`) {
		t.Errorf("%q", o.Message)
	}
	w.tells("1 0 0")
	if c := w.preflight("*.shop.example.org"); c.OK || c.Check != "record" || !strings.Contains(c.Message, "not known yet") || c.Remedy == "" {
		t.Errorf("%+v", c)
	}
	if c := w.preflight("*.shop.example.org", r); c.OK || c.Remedy != "publish "+r.Record+`. TXT "`+r.Value+`"` {
		t.Errorf("%+v", c)
	}

	account := strings.TrimSuffix(r.Value, "; policy=wildcard")
	for _, wrong := range []struct{ value, says string }{
		{"another-ca.example; accounturi=https://another-ca.example/1", "it is not there"},
		{account, "does not say policy=wildcard"},
		{account + "0; policy=wildcard", "names another account"},
		{r.Value + ";", "cannot read"},
		{r.Value + "; persistUntil=1", "has ended at 1970-01-01T00:00:01Z"},
	} {
		w.pebble.DNS.Add(r.Record, wrong.value)
		w.asked(shop, wrong.says)
		w.pebble.DNS.Remove(r.Record, wrong.value)
	}
	if n := w.pebble.Count(acmetest.NewOrder); n != 0 {
		t.Errorf("%d orders were made at the CA", n)
	}
	if w.pebble.Count(acmetest.Challenge) != 0 {
		t.Error("the CA was told to look")
	}

	w.pebble.DNS.Add(r.Record, r.Value)
	w.until("issued", always(w.worker), w.issued(shop))
	if c := w.preflight("*.shop.example.org", r); !c.OK || c.Message != r.Record+" proves it" || c.Remedy != "" {
		t.Errorf("%+v", c)
	}
	again, _ := w.orderFor("again", "shop.example.org")
	w.until("issued again", always(w.worker), w.issued(again))
	if found := w.record(shop); found.State != certctl.RecordPublished || !found.Until.IsZero() {
		t.Errorf("%+v", found)
	}
	if left := w.pebble.DNS.TXT(); len(left) != 1 || w.pebble.Count(acmetest.NewOrder) != 2 {
		t.Errorf("%v", left)
	}
	w.consistent()
}

// A record is watched: people are told when it disappears, when it is back, and
// before it ends; once each.
func TestARecordThatStandsIsWatched(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(10 * certctl.Day).Truncate(time.Second)
	w := newPersist(t, until)
	shop, _ := w.orderFor("shop", "shop.example.org")
	w.asked(shop, "it is not there")
	r := w.record(shop)
	end := "; persistUntil=" + strconv.FormatInt(until.Unix(), 10)
	if !strings.HasSuffix(r.Value, end) {
		t.Errorf("%q does not end with %q", r.Value, end)
	}
	w.pebble.DNS.Add(r.Record, r.Value)
	w.until("issued", always(w.worker), w.issued(shop))
	w.tells("1 1 0")
	if found := w.record(shop); !found.Until.Equal(until) || found.Told != certctl.Duration(14*certctl.Day) {
		t.Errorf("%+v", found)
	}
	w.look(r)
	w.tells("1 1 0")
	due := func() (at time.Time) {
		w.must(w.Pool().QueryRow(w.ctx, `select due_at from due where kind = 'validation_record'`).Scan(&at))
		return at
	}
	if at := due(); at.Before(w.now().Add(5*time.Hour)) || at.After(w.now().Add(7*time.Hour)) {
		t.Errorf("looked at again at %s", at)
	}

	endless := strings.TrimSuffix(r.Value, end)
	w.pebble.DNS.Add(r.Record, endless) // the better of two counts
	w.look(r)
	w.tells("1 1 1")
	w.pebble.DNS.Remove(r.Record, endless)
	w.pebble.DNS.Remove(r.Record, r.Value)
	w.look(r)
	w.look(r)
	w.tells("2 1 1")
	if at := due(); at.After(w.now().Add(2 * time.Hour)) {
		t.Errorf("looked at again at %s", at)
	}
	w.pebble.DNS.Add(r.Record, endless)
	w.look(r)
	w.tells("2 1 2")

	w.must(w.ArchiveCertificate(w.ctx, w.admin, shop.Name))
	w.look(r)
	if n := w.count(`select count(*) from validation_record`) + w.count(`select count(*) from due where kind = 'validation_record'`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	w.tells("2 1 2")
}

// Of a zone that cannot be asked it is said what to publish there, and people are
// told when a record has not been seen for a while: once, and when it is there again.
func TestARecordWhoseServersAreDeadIsToldOf(t *testing.T) {
	t.Parallel()
	w := newPersist(t, time.Time{})
	shop, _ := w.orderFor("shop", "shop.example.org")
	w.asked(shop, "it is not there")
	r := w.record(shop)
	w.pebble.DNS.Add(r.Record, r.Value)
	w.until("issued", always(w.worker), w.issued(shop))
	w.tells("1 0 1")
	check := certctl.RecordCheck{Record: r.ID, Value: r.Value, NextAt: w.now(), Err: certctl.Errorf(certctl.Unavailable, "no server answers")}
	for range certctl.RecordFailures - 1 {
		w.must(w.FinishRecords(w.ctx, []certctl.RecordCheck{check}))
	}
	if found := w.record(shop); found.State != certctl.RecordPublished || found.Message != "no server answers" {
		t.Errorf("%+v", found)
	}
	w.tells("1 0 1")
	for range 3 {
		w.must(w.FinishRecords(w.ctx, []certctl.RecordCheck{check}))
	}
	if found := w.record(shop); found.State != certctl.RecordUnreachable || found.CheckedAt.IsZero() {
		t.Errorf("%+v", found)
	}
	w.tells("2 0 1")
	w.look(r)
	if found := w.record(shop); found.State != certctl.RecordPublished || found.Failures != 0 {
		t.Errorf("%+v", found)
	}
	w.tells("2 0 2")
}

// What is to be published is said also where no server answers; one of several that
// does not answer is passed over.
func TestARecordOfDeadServersIsNamed(t *testing.T) {
	t.Parallel()
	const dead = "127.0.0.1:1"
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Rules, s.Servers = []acme.Rule{{Type: "dns-persist-01", Names: []string{"*.example.org"}}}, []string{dead}
	})
	p := &persistWorld{w, w.worker("a", immortal)}
	shop, _ := w.orderFor("shop", "shop.example.org")
	p.until("told", always(p.worker), func() bool { return strings.Contains(w.order(shop).Message, "Publish _validation-persist.shop") })
	if r := p.record(shop); r.State != certctl.RecordUnreachable || !r.CheckedAt.IsZero() || !strings.Contains(r.Message, "does not answer") {
		t.Errorf("%+v", r)
	}
	p.tells("1 0 0")

	one := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Rules = []acme.Rule{{Type: "dns-persist-01", Names: []string{"*.example.org"}}}
		s.Servers = append([]string{dead}, s.Servers...)
	})
	p = &persistWorld{one, one.worker("a", immortal)}
	shop, _ = one.orderFor("shop", "shop.example.org")
	p.asked(shop, "it is not there")
}
