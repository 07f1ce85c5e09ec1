package agent

import (
	"github.com/certctl/certctl"
)

// Reader is a target that can give back the leaf and the chain that it serves.
type Reader interface {
	Read(place string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error)
}

// tellInventory reports what is in the places of bindings: a server that was
// restored from a backup asks for what it does not know any more. Nothing but
// certificates is told, and nothing on the node changes.
func (a *Agent) tellInventory(s certctl.Statement) {
	var command certctl.InventoryCommand
	err := s.Decode(&command)
	switch {
	case err != nil || s.Object != a.id.Agent:
		a.refusedCommand(s, certctl.Errorf(certctl.Invalid, "this command asks for nothing of this agent"))
		return
	case a.now().After(command.NotAfter):
		a.refusedCommand(s, certctl.Errorf(codeExpired, "this command has ended"))
		return
	}
	var report certctl.InventoryReport
	for _, binding := range command.Bindings[:min(len(command.Bindings), certctl.MaxInventory)] {
		report.Items = append(report.Items, a.inventoryOf(binding))
	}
	statement, err := a.statement(certctl.ReportInventory, a.id.Agent, s.Number, report)
	if err != nil {
		a.problem("report", err)
		return
	}
	a.commit(func() []Change { return []Change{reportChange(statement)} })
}

// inventoryOf is what one binding has, by the journal and the files.
func (a *Agent) inventoryOf(binding certctl.ID) certctl.InventoryItem {
	item := certctl.InventoryItem{Binding: binding}
	var record bindingRecord
	if !a.journal.Get(bindingKey(binding), &record) || record.Forgotten || record.Version.IsZero() {
		item.Problem = "this node has no such binding"
		return item
	}
	item.Version, item.Number = record.Version, record.Number
	var receipt certctl.Receipt
	if record.Answer.Kind == certctl.ReportReceipt && record.Answer.Decode(&receipt) == nil && receipt.Version == record.Version {
		item.Outcome = receipt.Outcome
	}
	target, err := a.open(record.Target)
	if err != nil {
		item.Problem = safeMessage(err)
		return item
	}
	reader, ok := target.(Reader)
	if !ok {
		item.Problem = "targets of this kind do not give certificates back"
		return item
	}
	if item.Leaf, item.Chain, err = reader.Read(record.Place, record.Slot); err != nil {
		item.Problem = safeMessage(err)
		return item
	}
	if certctl.DigestOf(item.Leaf) != record.Fingerprint {
		item.Leaf, item.Chain, item.Problem = nil, nil, "the files are not what was installed"
	}
	return item
}
