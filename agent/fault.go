package agent

// FaultPoint names a moment at which tests end the process. The list is closed;
// drivers have points of their own (after-stage, after-switch, after-reload).
type FaultPoint string

const (
	FaultKeyStored      FaultPoint = "after-key-stored"       // the key's file is there, the journal knows nothing
	FaultKeyJournalled  FaultPoint = "after-key-journalled"   // order and CSR are journalled, nothing is reported
	FaultNextKeyStored  FaultPoint = "after-next-key-stored"  // the next key's file is there, the journal knows nothing
	FaultKeyErased      FaultPoint = "after-key-erased"       // the key's files are gone, the journal knows nothing
	FaultBeforeReceipt  FaultPoint = "before-receipt-journal" // installed, the journal knows nothing
	FaultAfterReceipt   FaultPoint = "after-receipt-journal"  // journalled, nothing is reported
	FaultBeforeReport   FaultPoint = "before-report"          // a report is about to be sent
	FaultAfterReport    FaultPoint = "after-report"           // the server has recorded it, the journal does not know
	FaultTargetRecorded FaultPoint = "after-target-journal"   // targets are journalled, nothing is opened
)

// at reaches a fault point. Only builds with the tag "faults" set a hook.
func (a *Agent) at(point FaultPoint) {
	if a.fault != nil {
		a.fault(string(point))
	}
}
