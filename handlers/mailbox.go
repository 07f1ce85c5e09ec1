package handlers

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/rs/zerolog"
)

// MailboxStore knows what waits for agents.
type MailboxStore interface {
	AgentStore
	MailboxFor(ctx context.Context, asks []certctl.MailboxAsk) ([]certctl.MailboxWork, error)
	NewestTrust(ctx context.Context) (certctl.Statement, error)
	Now(ctx context.Context) (time.Time, error)
}

// SecretOpener opens what is sealed at rest under the "secrets" key.
type SecretOpener func(work certctl.InstallWork) ([]byte, error)

// Mailboxes answers agents that ask for work. It reads what waits from the
// store and signs each command; nothing that came with the question goes into
// an answer.
type Mailboxes struct {
	verifier     verifier
	store        MailboxStore
	installation certctl.ID
	command      crypto.Signer // signs commands
	open         SecretOpener
	nextAfter    time.Duration
	log          zerolog.Logger
}

// NewMailboxes returns the handler. command is the newest command key, open
// opens imported private keys so that they can be sealed to their agent.
func NewMailboxes(installation certctl.ID, fleet ed25519.PublicKey, store MailboxStore, command crypto.Signer, open SecretOpener, log zerolog.Logger) *Mailboxes {
	return &Mailboxes{
		verifier: newVerifier(installation, fleet, store), store: store,
		installation: installation, command: command, open: open, nextAfter: certctl.OfflineAfter / 3, log: log,
	}
}

// commandLife is how long a command may be obeyed after it was signed. It is
// signed anew at each answer, so it only has to outlast the slowest install.
const commandLife = time.Hour

// expiry is until when commands may be obeyed that answer a question asked at a
// time of the node's own clock, which may be hours ahead of ours: the node holds
// the end of a command against it.
func expiry(now, asked time.Time) time.Time {
	if asked.After(now) {
		now = asked
	}
	return now.Add(commandLife)
}

// Answer answers many agents with one read and one transaction of the store.
func (m *Mailboxes) Answer(ctx context.Context, statements []certctl.Statement) []bus.MailboxReply {
	replies := make([]bus.MailboxReply, len(statements))
	asks, places, err := m.questions(ctx, statements, replies)
	if err != nil || len(asks) == 0 {
		return failAll(replies, err)
	}
	work, err := m.store.MailboxFor(ctx, asks)
	if err != nil {
		return failAll(replies, err)
	}
	now, err := m.store.Now(ctx)
	if err != nil {
		return failAll(replies, err)
	}
	trust, err := m.store.NewestTrust(ctx)
	if err != nil {
		return failAll(replies, err)
	}
	for i, place := range places {
		box, err := m.sign(work[i], now, expiry(now, statements[place].Time))
		if asks[i].Request.TrustVersion < trust.Number {
			box.Trust = &trust
		}
		replies[place] = bus.MailboxReply{Mailbox: box, Err: err}
	}
	return replies
}

func failAll(replies []bus.MailboxReply, err error) []bus.MailboxReply {
	for i := range replies {
		if replies[i].Err == nil {
			replies[i].Err = err
		}
	}
	return replies
}

// questions verifies and decodes the statements; the refused ones get their
// reply here.
func (m *Mailboxes) questions(ctx context.Context, statements []certctl.Statement, replies []bus.MailboxReply) ([]certctl.MailboxAsk, []int, error) {
	_, refused, err := m.verifier.verify(ctx, statements)
	if err != nil {
		return nil, nil, err
	}
	var asks []certctl.MailboxAsk
	var places []int
	for i, s := range statements {
		ask := certctl.MailboxAsk{Agent: s.Agent, Time: s.Time}
		err := refused[i]
		if err == nil && s.Kind != certctl.ReportMailbox {
			err = certctl.Errorf(certctl.Invalid, "not a mailbox request")
		}
		if err == nil {
			err = s.Decode(&ask.Request)
		}
		if err != nil {
			m.log.Warn().Err(err).Stringer("agent", s.Agent).Msg("mailbox request refused")
			replies[i].Err = err
			continue
		}
		asks, places = append(asks, ask), append(places, i)
	}
	return asks, places, nil
}

// sign turns what waits for one agent into signed commands: targets first, then
// the commands that need them.
func (m *Mailboxes) sign(work certctl.MailboxWork, now, until time.Time) (certctl.Mailbox, error) {
	box := certctl.Mailbox{NextAfter: certctl.Duration(m.nextAfter), More: work.More, Stop: work.Stop}
	if work.Stop != "" {
		return box, nil
	}
	signer := commandSigner{installation: m.installation, agent: work.Agent.ID, key: m.command, now: now}
	for _, target := range work.Targets {
		signer.add(certctl.CommandTarget, target.ID, target.Revision, certctl.TargetCommand{
			Target: target.ID, Name: target.Name, Kind: target.Kind, Settings: target.Settings,
		})
	}
	for _, key := range work.Keys {
		order := key.Order
		signer.add(certctl.CommandMakeKey, order.ID, key.Number, certctl.KeyCommand{
			Order: order.ID, Holder: order.Holder, Certificate: order.Certificate, CertificateName: key.Certificate,
			Names: order.Names, Algorithm: order.Profile.KeyAlgorithms[0], ReuseSPKI: key.Reuse, NotAfter: until,
			Shared: order.HolderKind == certctl.HolderShared, Recipients: key.Recipients,
		})
	}
	for _, share := range work.Shares {
		signer.add(certctl.CommandShare, share.Holder, share.Number, certctl.ShareCommand{
			Holder: share.Holder, CertificateName: share.Certificate, SPKI: share.SPKI, Recipients: share.Recipients, NotAfter: until,
		})
	}
	for _, install := range work.Installs {
		command, err := m.install(work.Agent, install, until)
		if err != nil {
			return certctl.Mailbox{}, err
		}
		signer.add(certctl.CommandInstall, install.Deployment.ID, install.Number, command)
	}
	for _, forget := range work.Forgets {
		signer.add(certctl.CommandForget, forget.Binding.ID, forget.Number, certctl.ForgetCommand{
			Binding: forget.Binding.ID, Target: forget.Binding.Target.ID,
			Place: forget.Binding.Place, Slot: forget.Binding.Slot, Remove: forget.Remove,
		})
	}
	for _, erase := range work.Erases {
		signer.add(certctl.CommandErase, erase.ID, erase.Number, certctl.EraseCommand{
			Erasure: erase.ID, SPKI: erase.SPKI, NotAfter: until,
		})
	}
	for _, prove := range work.Proves {
		signer.add(certctl.CommandProve, prove.Set, prove.Number, certctl.ProveCommand{Set: prove.Set, Proofs: prove.Proofs, NotAfter: until})
	}
	for _, test := range work.Tests {
		signer.add(certctl.CommandTest, test.ID, test.Number, certctl.TestCommand{
			Test: test.ID, Target: test.Target.ID, Places: test.Places, Left: test.Left,
			NotAfter: until.Add(test.NotAfter.Sub(now) - commandLife), // what is left of its life, by the node's clock
		})
	}
	if len(work.Inventory) > 0 {
		signer.add(certctl.CommandInventory, work.Agent.ID, now.UnixMicro(), certctl.InventoryCommand{
			Bindings: work.Inventory, NotAfter: until,
		})
	}
	box.Commands = signer.commands
	return box, signer.err
}

// install makes the body of an install command. A key that came with an import
// is opened here and sealed to this one agent; a shared one was sealed for it by
// another node, and nobody here can open it.
func (m *Mailboxes) install(agent certctl.Agent, work certctl.InstallWork, until time.Time) (certctl.InstallCommand, error) {
	version := work.Version
	command := certctl.InstallCommand{
		Deployment: work.Deployment.ID, Binding: work.Binding.ID, Target: work.Binding.Target.ID,
		Certificate: version.Certificate, CertificateName: work.Certificate,
		Place: work.Binding.Place, Slot: work.Binding.Slot,
		Version: version.ID, Fingerprint: version.Fingerprint, SPKI: version.SPKI,
		Names: work.Names, Leaf: version.Leaf, Chain: version.Chain, NotAfter: until,
		Next: work.Next,
	}
	if shared := work.Shared; !shared.Holder.IsZero() {
		command.Holder, command.SealedKey, command.SealedNumber = shared.Holder, shared.Ciphertext, shared.Number
		return command, nil
	}
	if len(work.SealedKey) == 0 {
		return command, nil
	}
	key, err := m.open(work)
	if err != nil {
		return certctl.InstallCommand{}, err
	}
	command.SealedKey, err = certctl.SealTo(agent.Keys.Sealing, certctl.SealInfo{
		Purpose: certctl.SealPrivateKey, Object: version.Certificate, Agent: agent.ID, SPKI: version.SPKI,
	}, key)
	return command, err
}

// commandSigner gathers the signed commands of one answer and the first error.
type commandSigner struct {
	installation, agent certctl.ID
	key                 crypto.Signer
	now                 time.Time
	commands            []certctl.Statement
	err                 error
}

func (c *commandSigner) add(kind string, object certctl.ID, number int64, body any) {
	if c.err != nil {
		return
	}
	statement, err := certctl.NewStatement(c.key, certctl.Statement{
		Domain: certctl.DomainCommand, Installation: c.installation, Agent: c.agent,
		Kind: kind, Object: object, Number: number, Time: c.now,
	}, body)
	if err != nil {
		c.err = err
		return
	}
	c.commands = append(c.commands, statement)
}
