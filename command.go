package certctl

import (
	"encoding/json"
	"time"
)

// Kinds of commands: the Kind of a Statement in DomainCommand.
const (
	CommandTarget  = "target"  // Object: target; Number: its revision; body TargetCommand
	CommandMakeKey = "key"     // Object: order; Number: command number; body KeyCommand
	CommandInstall = "install" // Object: deployment; Number: command number; body InstallCommand
	CommandForget  = "forget"  // Object: binding; body ForgetCommand: stop managing, or remove
	CommandShare   = "share"   // Object: holder; Number: command number; body ShareCommand
)

// TargetCommand tells an agent what a target is. It comes with every mailbox
// answer that holds an install command for it.
type TargetCommand struct {
	Target   ID              `json:"target"`
	Name     string          `json:"name"`
	Kind     string          `json:"kind"`
	Settings json.RawMessage `json:"settings"`
	Secrets  []byte          `json:"secrets,omitempty"` // HPKE-sealed to the agent's sealing key
}

// KeyCommand asks the agent to make a key and to report a CSR for an order. The
// same order asked again gets the same CSR.
type KeyCommand struct {
	Order           ID           `json:"order"`
	Holder          ID           `json:"holder"`
	Certificate     ID           `json:"certificate"`
	CertificateName string       `json:"certificate_name"`
	Names           Names        `json:"names"`
	Algorithm       KeyAlgorithm `json:"algorithm"`
	ReuseSPKI       Digest       `json:"reuse_spki,omitzero"` // sign with this existing key instead
	NotAfter        time.Time    `json:"not_after"`           // the command is void afterwards
	// Shared: the holder's members have one key. Recipients are the agent
	// statements of those that it is sealed for, at most MaxRecipients.
	Shared     bool        `json:"shared,omitempty"`
	Recipients []Statement `json:"recipients,omitempty"`
}

// InstallCommand asks the agent to make a target serve a version. Numbers of a
// binding only rise; an agent obeys none at or below the newest that it carried out.
type InstallCommand struct {
	Deployment      ID        `json:"deployment"`
	Binding         ID        `json:"binding"`
	Target          ID        `json:"target"`
	Certificate     ID        `json:"certificate"`
	CertificateName string    `json:"certificate_name"`
	Place           string    `json:"place"`
	Slot            Slot      `json:"slot"`
	Version         ID        `json:"version"`
	Fingerprint     Digest    `json:"fingerprint"`
	SPKI            Digest    `json:"spki"` // which of its keys this leaf is for
	Names           Names     `json:"names"`
	Leaf            []byte    `json:"leaf"` // DER
	Chain           Chain     `json:"chain"`
	SealedKey       []byte    `json:"sealed_key,omitempty"` // imported or shared keys: PKCS#8, HPKE-sealed
	NotAfter        time.Time `json:"not_after"`
	Next            *NextKey  `json:"next,omitempty"` // the key that is to be handed over with the receipt
	// Holder and SealedNumber say that SealedKey is a shared key, which another
	// node has sealed: see SealSharedKey.
	Holder       ID    `json:"holder,omitzero"`
	SealedNumber int64 `json:"sealed_number,omitempty"`
}

// ForgetCommand ends the management of a binding. The served files stay unless
// Remove is set, and are not removed while the validated configuration names them.
type ForgetCommand struct {
	Binding ID     `json:"binding"`
	Target  ID     `json:"target"`
	Place   string `json:"place"`
	Slot    Slot   `json:"slot"`
	Remove  bool   `json:"remove"`
}

// MailboxRequest is what an agent says when it asks for work: Kind "mailbox" in
// DomainAgent. What is installed goes up, so that the server can tell what is
// missing without having kept count.
type MailboxRequest struct {
	Session      ID          `json:"session"` // drawn at each start of the agent
	MachineID    string      `json:"machine_id"`
	Version      string      `json:"version"`
	Capabilities []string    `json:"capabilities"`       // target kinds that this build and policy allow
	Features     []string    `json:"features,omitempty"` // what it can be asked for that older ones do not know
	TrustVersion int64       `json:"trust_version"`
	Installed    []Installed `json:"installed"`
	Proving      []ID        `json:"proving,omitempty"` // sets of proofs that the node holds
}

// Installed is one binding's state on the node.
type Installed struct {
	Binding ID    `json:"binding"`
	Version ID    `json:"version"`
	Number  int64 `json:"number"`
	// Drift says how the files differ from what was installed; empty: they do not.
	Drift string `json:"drift,omitempty"`
}

// Mailbox is the answer to a MailboxRequest: every open command, the newest per
// binding and order, each signed on its own.
type Mailbox struct {
	Commands  []Statement `json:"commands"`
	Trust     *Statement  `json:"trust,omitempty"` // when the agent's is older
	NextAfter Duration    `json:"next_after"`      // ask again after this long even without a bell
	More      bool        `json:"more,omitempty"`  // the answer was cut; ask again at once
	Stop      string      `json:"stop,omitempty"`  // why this session must end; nothing else is set then
}

// Kinds of reports: the Kind of a Statement in DomainAgent.
const (
	ReportMailbox   = "mailbox"   // MailboxRequest
	ReportCSR       = "csr"       // Object: order; body CSRReport
	ReportReceipt   = "receipt"   // Object: deployment; Number: command number; body Receipt
	ReportRefusal   = "refusal"   // Object: order or deployment; body Refusal
	ReportForgotten = "forgotten" // Object: binding; Number: command number; body Refusal, code empty
	ReportShared    = "shared"    // Object: holder; Number: command number; body SharedReport
)

// CSRReport answers a KeyCommand.
type CSRReport struct {
	Order ID     `json:"order"`
	CSR   []byte `json:"csr"` // DER
	// Sealed and Refused answer the command's Recipients.
	Sealed  []SealedKey        `json:"sealed,omitempty"`
	Refused []RefusedRecipient `json:"refused,omitempty"`
}

// RefusalExpired is the code of a command that had ended when it came, by the
// node's clock, which may have jumped meanwhile: it is asked again soon.
const RefusalExpired = "expired"

// Refusal says that the node will not carry out a command: its own policy, or
// something that it cannot do. It is tried again like a failure.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// ReceiptOutcome says how an InstallCommand ended on the node.
type ReceiptOutcome string

const (
	OutcomeVerified   ReceiptOutcome = "verified"
	OutcomeInstalled  ReceiptOutcome = "installed"
	OutcomeRolledBack ReceiptOutcome = "rolled_back"
	OutcomeFailed     ReceiptOutcome = "failed"
)

// Receipt is the agent's word, under its signature, of what became of an
// InstallCommand. It is repeated until the server has recorded it.
type Receipt struct {
	Deployment  ID             `json:"deployment"`
	Binding     ID             `json:"binding"`
	Version     ID             `json:"version"`
	Fingerprint Digest         `json:"fingerprint"` // what is in place now; zero if nothing is
	Outcome     ReceiptOutcome `json:"outcome"`
	Code        string         `json:"code,omitempty"`    // check_refused, reload_failed, not_served, key_missing, …
	Message     string         `json:"message,omitempty"` // the daemon's own words, clipped
	Remedy      string         `json:"remedy,omitempty"`
	Generation  int            `json:"generation"`
	CheckedBy   string         `json:"checked_by,omitempty"`  // namespace, switch, none
	VerifiedBy  string         `json:"verified_by,omitempty"` // probe, loaded, installed
	Served      []Served       `json:"served,omitempty"`
	At          time.Time      `json:"at"`
	NextCSR     []byte         `json:"next_csr,omitempty"` // DER; answers InstallCommand.Next
}

// Served is one answer of a listener.
type Served struct {
	Address     string `json:"address"`
	ServerName  string `json:"server_name,omitempty"`
	Fingerprint Digest `json:"fingerprint"`
}

// ReportAnswer is the server's answer to one report, given after the commit
// that recorded it. A refusal with Final set is not repeated by the agent.
type ReportAnswer struct {
	Recorded bool   `json:"recorded"`
	Final    bool   `json:"final,omitempty"`
	Message  string `json:"message,omitempty"`
	// RetryAfter asks an agent to wait before it says this again.
	RetryAfter Duration `json:"retry_after,omitzero"`
}
