package handlers_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
)

// lost is what a restored database does not know: the second leaf of a
// certificate that its node has installed.
type lost struct {
	*world
	node        *node
	certificate certctl.Certificate
	order       certctl.ID
	first       certctl.Version
	second      certctl.Version
	installed   certctl.Installed // what the node says
	events      []certctl.Event   // since the backup
	recovery    certctl.Recovery
}

// installs lets the node carry out its only install command.
func (n *node) installs() certctl.Installed {
	n.w.t.Helper()
	var install certctl.InstallCommand
	statement := n.command(certctl.CommandInstall, &install)
	if a := n.reports(n.receipt(install, statement.Number, certctl.OutcomeVerified, "")); !a.Recorded {
		n.w.t.Fatalf("receipt: %+v", a)
	}
	return certctl.Installed{Binding: install.Binding, Version: install.Version, Number: statement.Number}
}

// loses makes an installation whose database goes back to before the renewal of
// its certificate, while the order for that is open.
func loses(t *testing.T) *lost {
	t.Helper()
	l := &lost{world: newWorld(t)}
	l.node = l.newNode("web1")
	l.node.target("one")
	l.certificate = l.submit("shop", "one")
	l.issues(l.node.answersCSR().Order)
	l.node.installs()
	l.first = l.versions(l.certificate)[0]
	orders, err := l.RenewCertificate(l.ctx, l.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	l.must(err)
	l.order = orders[0].ID

	all, err := l.EventsSince(l.ctx, certctl.NoID, 1000)
	l.must(err)
	l.sql(`create table backup_head as select * from event_head`)
	l.issues(l.node.answersCSR().Order)
	l.installed = l.node.installs()
	l.second = l.versions(l.certificate)[0]
	l.events, err = l.EventsSince(l.ctx, all[len(all)-1].ID, 1000)
	l.must(err)
	l.goBack(all[len(all)-1].ID)
	return l
}

func (l *lost) sql(statement string, args ...any) {
	l.t.Helper()
	if _, err := l.Pool().Exec(l.ctx, statement, args...); err != nil {
		l.t.Fatalf("%s: %v", statement, err)
	}
}

// goBack does to the database what a restore would have done.
func (l *lost) goBack(last certctl.ID) {
	l.t.Helper()
	l.sql(`alter table event disable trigger event_append_only`)
	l.sql(`delete from event where id > $1`, last)
	l.sql(`delete from event_out where id > $1`, last)
	l.sql(`alter table event enable trigger event_append_only`)
	l.sql(`update event_head h set sequence = b.sequence from backup_head b where b.object_id = h.object_id`)
	l.sql(`delete from event_head where object_id not in (select object_id from backup_head)`)
	l.sql(`delete from deployment where version_id = $1`, l.second.ID)
	l.sql(`update holder set version_id = $1`, l.first.ID)
	l.sql(`delete from version where id = $1`, l.second.ID)
	l.sql(`delete from attempt where order_id = $1`, l.order)
	l.sql(`update cert_order set state = 'awaiting_csr', csr = null, csr_spki = null, attempts = 0, version_id = null, closed_at = null where id = $1`, l.order)
	l.sql(`insert into due (kind, id, verb, lane, agent_id, urgency, due_at) values ('order', $1, 'bell', '-', $2, 0, now())`, l.order, l.node.id)
	l.sql(`delete from due where kind = 'holder'`)
	l.sql(`update deployment set updated_at = now() - interval '1 hour'`) // the node has had time to say so
	l.must(l.BeginRecovery(l.ctx, l.now()))
	var err error
	l.recovery, err = l.Recovery(l.ctx)
	l.must(err)
}

// stream lets the recovery read a stream of some events.
func (l *lost) stream(events ...certctl.Event) {
	l.t.Helper()
	r := handlers.NewRecover(l.Store, testLog(l.t))
	l.must(r.ReadStream(l.ctx, l.recovery, func(_ context.Context, _ time.Time, take func([]certctl.Event) error) (bool, error) {
		if len(events) == 0 {
			return false, nil
		}
		return true, take(events)
	}))
}

// asked proves that the node is asked for its leaf, and for nothing else.
func (l *lost) asked() {
	l.t.Helper()
	box := l.node.mailbox(l.installed)
	if len(box.Commands) != 1 || box.Commands[0].Kind != certctl.CommandInventory {
		l.t.Fatalf("commands %+v, want the question for the leaf and nothing else", box.Commands)
	}
	var command certctl.InventoryCommand
	l.must(box.Commands[0].Decode(&command))
	if len(command.Bindings) != 1 || command.Bindings[0] != l.installed.Binding {
		l.t.Errorf("asked for %+v", command)
	}
}

// tells reports a leaf as the node's.
func (l *lost) tells(leaf []byte, chain certctl.Chain) {
	l.t.Helper()
	answer := l.node.reports(l.node.says(certctl.ReportInventory, l.node.id, 1, certctl.InventoryReport{Items: []certctl.InventoryItem{{
		Binding: l.installed.Binding, Version: l.installed.Version, Number: l.installed.Number, Leaf: leaf, Chain: chain, Outcome: certctl.OutcomeVerified,
	}}}))
	if !answer.Recorded {
		l.t.Fatalf("the inventory was not recorded: %+v", answer)
	}
}

// whole finishes the recovery and proves that all is as it should be.
func (l *lost) whole() {
	l.t.Helper()
	if finished, err := l.FinishRecovery(l.ctx, certctl.SystemActor("scheduler"), false); err != nil || !finished {
		l.t.Errorf("finished %v, %v", finished, err)
	}
	l.consistent()
}

// With the stream and the agent, everything is as it was.
func TestAnAgentBringsBackWhatTheBackupLacks(t *testing.T) {
	t.Parallel()
	l := loses(t)
	l.stream(l.events...)
	for range 2 { // asked again until it has told
		l.asked()
	}
	if finished, err := l.FinishRecovery(l.ctx, certctl.SystemActor("scheduler"), false); err != nil || finished {
		t.Errorf("finished %v, %v, before the agent's leaf is known", finished, err)
	}
	jobs, err := l.ReadyOrders(l.ctx, []certctl.ID{l.order})
	if err != nil || len(jobs) != 0 {
		t.Errorf("the order that was issued is to be issued again: %v, %v", jobs, err)
	}
	l.tells(l.second.Leaf, l.second.Chain)
	current := l.versions(l.certificate)[0]
	if current.ID != l.second.ID || current.Origin != certctl.VersionRecovered || current.Serial != l.second.Serial ||
		current.Authority != l.second.Authority || current.Order != l.order || current.RenewAt.IsZero() {
		t.Errorf("recovered %+v of %+v", current, l.second)
	}
	for _, o := range l.orders(l.certificate) {
		if o.State != certctl.OrderIssued {
			t.Errorf("order %+v", o)
		}
	}
	if box := l.node.mailbox(l.installed); len(box.Commands) != 0 {
		t.Errorf("commands afterwards %+v", box.Commands)
	}
	l.whole()

	_, err = l.RenewCertificate(l.ctx, l.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	l.must(err)
	l.issues(l.node.answersCSR().Order)
	if next := l.node.installs(); next.Number <= l.installed.Number || next.Version == l.second.ID {
		t.Errorf("the next command is %+v after %+v", next, l.installed)
	}
	l.consistent()
}

// Without the stream, a leaf that an authority of ours has signed is enough.
func TestALeafOfOursNeedsNoEvent(t *testing.T) {
	t.Parallel()
	l := loses(t)
	l.stream()
	l.asked()
	l.tells(l.second.Leaf, l.second.Chain)
	if current := l.versions(l.certificate)[0]; current.ID != l.second.ID || current.Authority != l.second.Authority {
		t.Errorf("recovered %+v", current)
	}
	recovery, err := l.Recovery(l.ctx)
	if err != nil || recovery.Stream != certctl.StreamAbsent || recovery.Taken != 1 || recovery.Refused != 0 {
		t.Errorf("recovery %+v, %v", recovery, err)
	}
}

// An agent that was away when the recovery was ended by hand is told nothing
// older either when it comes back.
func TestAnAgentThatComesBackLateIsAskedFirst(t *testing.T) {
	t.Parallel()
	l := loses(t)
	l.stream(l.events...)
	if finished, err := l.FinishRecovery(l.ctx, l.admin, true); err != nil || !finished {
		t.Fatalf("finished %v, %v", finished, err)
	}
	l.asked()
	l.tells(l.second.Leaf, l.second.Chain)
	if current := l.versions(l.certificate)[0]; current.ID != l.second.ID {
		t.Errorf("current is %+v", current)
	}
	if box := l.node.mailbox(l.installed); len(box.Commands) != 0 {
		t.Errorf("commands afterwards %+v", box.Commands)
	}
	l.consistent()
}

// What nobody vouches for is not taken in, and holds nothing back for ever.
func TestALeafThatNobodyVouchesForIsRefused(t *testing.T) {
	t.Parallel()
	l := loses(t)
	l.stream(l.events...)
	l.asked()
	stranger := l.newNode("web2")
	if a := stranger.reports(stranger.says(certctl.ReportInventory, l.node.id, 1, certctl.InventoryReport{})); a.Recorded || !a.Final {
		t.Errorf("another agent's inventory was taken: %+v", a)
	}
	if a := stranger.reports(stranger.says(certctl.ReportInventory, stranger.id, 1, certctl.InventoryReport{Items: []certctl.InventoryItem{{
		Binding: l.installed.Binding, Version: l.installed.Version, Leaf: l.second.Leaf, Chain: l.second.Chain,
	}}})); !a.Recorded {
		t.Errorf("an inventory that nobody asked for: %+v", a)
	}
	if current := l.versions(l.certificate)[0]; current.ID != l.first.ID {
		t.Fatalf("a leaf of another agent's was taken in: %+v", current)
	}

	l.tells(selfSigned(t, "shop.example.com"), nil)
	if current := l.versions(l.certificate)[0]; current.ID != l.first.ID {
		t.Fatalf("a leaf that nobody vouches for was taken in: %+v", current)
	}
	found := false
	for _, c := range l.node.mailbox(l.installed).Commands {
		found = found || c.Kind == certctl.CommandInstall
	}
	if !found {
		t.Error("what the server knows is not installed, though nothing better is known")
	}
	recovery, err := l.Recovery(l.ctx)
	if err != nil || recovery.Refused != 1 || recovery.Taken != 0 || recovery.Stubs != 1 {
		t.Errorf("recovery %+v, %v", recovery, err)
	}
}

func selfSigned(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{name}, NotBefore: time.Now(), NotAfter: time.Now().Add(certctl.Day)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Events of the stream come back once, under their own ids, and are not
// published again.
func TestEventsComeBackOnce(t *testing.T) {
	t.Parallel()
	l := loses(t)
	// The backup holds one that was published after it.
	l.sql(`insert into event_out (id) select id from event order by id desc limit 1 on conflict do nothing`)
	old, err := l.EventsSince(l.ctx, certctl.NoID, 1000)
	l.must(err)
	for _, want := range []int{len(l.events), 0} {
		n, err := l.TakeEvents(l.ctx, l.recovery.ID, append(old[len(old)-1:], l.events...))
		if err != nil || n != want {
			t.Errorf("%d new events, %v, want %d", n, err, want)
		}
	}
	l.stream(l.events...)
	unpublished, err := l.UnpublishedEvents(l.ctx, -time.Second, 1000)
	l.must(err)
	known := map[certctl.ID]bool{old[len(old)-1].ID: true}
	for _, e := range l.events {
		known[e.ID] = true
	}
	for _, e := range unpublished {
		if known[e.ID] {
			t.Errorf("%s is published again", e.Name)
		}
	}
	l.consistent()
}

// A new trust document is above whatever agents may have.
func TestARestoreMakesANewTrustDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, err := w.NewestTrust(w.ctx)
	w.must(err)
	facts := handlers.TrustFacts{CommandKeys: w.platform.CommandKeys}
	same, err := handlers.PublishTrust(w.ctx, w.Store, w.installation, w.platform.Fleet, facts, w.now())
	if err != nil || same.Number != old.Number {
		t.Errorf("version %d after %d, %v, though nothing has changed", same.Number, old.Number, err)
	}
	facts.After = w.now()
	fresh, err := handlers.PublishTrust(w.ctx, w.Store, w.installation, w.platform.Fleet, facts, w.now())
	if err != nil || fresh.Number <= old.Number || fresh.Number < facts.After.UnixMicro() {
		t.Errorf("version %d after %d, %v", fresh.Number, old.Number, err)
	}
}
