package certctl

import "time"

// EraseCommand asks an agent to erase a private key whose compromise is known,
// wherever it has it: in its store, and in the generations that hold it. A key
// that is in service stays, and the agent says so: it is told again when the
// replacement is verified.
type EraseCommand struct {
	Erasure  ID        `json:"erasure"`
	SPKI     Digest    `json:"spki"`
	NotAfter time.Time `json:"not_after"`
}

// CommandErase is a command whose Object is an erasure; body EraseCommand. It is
// carried out as often as it is given.
const CommandErase = "erase"

// ReportErased answers a CommandErase: Object: erasure; Number: command number;
// body Refusal, code empty.
const ReportErased = "erased"

// CodeKeyInService is the code of a refusal to erase a key.
const CodeKeyInService = "key_in_service"

// EraseWork is a key that its agent should erase.
type EraseWork struct {
	ID     ID
	SPKI   Digest
	Number int64
}

// Events of erasures, about agents.
const (
	EventKeyErasureRequested EventName = "key_erasure_requested"
	EventKeyErasureDelayed   EventName = "key_erasure_delayed" // the node cannot, or not yet
	EventKeyErased           EventName = "key_erased"
)
