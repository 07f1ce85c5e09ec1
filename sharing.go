package certctl

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"
)

// MaxRecipients is how many members one command seals a shared key for, so that
// the command and its answer pass through the bus. Others get it from whoever
// has it then.
const MaxRecipients = 24

// ShareCommand asks a member of a shared holder, which has the key, to seal it
// for others.
type ShareCommand struct {
	Holder          ID          `json:"holder"`
	CertificateName string      `json:"certificate_name"`
	SPKI            Digest      `json:"spki"`
	Recipients      []Statement `json:"recipients"` // agent statements, at most MaxRecipients
	NotAfter        time.Time   `json:"not_after"`
}

// SharedReport answers a ShareCommand.
type SharedReport struct {
	Holder  ID                 `json:"holder"`
	SPKI    Digest             `json:"spki"`
	Sealed  []SealedKey        `json:"sealed,omitempty"`
	Refused []RefusedRecipient `json:"refused,omitempty"`
}

// SealedKey is a holder's private key (PKCS#8), sealed by one member for another.
type SealedKey struct {
	Agent      ID     `json:"agent"`
	Ciphertext []byte `json:"ciphertext"`
}

// MaxSealedKey bounds a ciphertext: an RSA-4096 key takes 3.6 kB.
const MaxSealedKey = 8 << 10

// RefusedRecipient is a member for which the key was not sealed, and why.
type RefusedRecipient struct {
	Agent ID     `json:"agent"`
	Code  string `json:"code"`
}

// RefusedUnproven is the code of a recipient for which the fleet key has not
// signed: nobody may add himself in the database.
const RefusedUnproven = "unproven"

// SharedKey is a shared key on its way to a member.
type SharedKey struct {
	Holder     ID     // absent: the key is not shared
	Ciphertext []byte // empty: the member has the key
	Number     int64
}

// ShareWork is a shared key that its agent should seal for others.
type ShareWork struct {
	Holder      ID
	Certificate string
	SPKI        Digest
	Recipients  []Statement
	Number      int64
}

// KeyState says where a member of a shared holder stands with the newest key.
type KeyState string

const (
	KeyHeld    KeyState = "has"     // it made the key, or has installed a leaf with it
	KeySent    KeyState = "sealed"  // its ciphertext waits for it, or is being installed
	KeyWaited  KeyState = "waits"   // nobody has sealed it for this member yet
	KeyRefused KeyState = "refused" // another member will not: see RefusedRecipient
)

// MemberKey is one member's part of a shared key.
type MemberKey struct {
	Agent ID
	State KeyState
}

// ProvenAgent returns the agent whose keys an enrolment statement vouches for,
// if the fleet key of the installation made it.
func ProvenAgent(s Statement, fleet ed25519.PublicKey, installation ID) (agent ID, keys AgentKeys, err error) {
	if err := s.Verify(DomainEnrolment, fleet); err != nil {
		return NoID, keys, err
	}
	if s.Installation != installation || s.Kind != "agent" || s.Agent.IsZero() {
		return NoID, keys, Errorf(Denied, "this statement is not about an agent of this installation")
	}
	if err := s.Decode(&keys); err != nil {
		return NoID, keys, err
	}
	return s.Agent, keys, keys.Check()
}

// ChooseSharing decides whether some agents share one key. Unset means shared
// where an issuer limits duplicates or takes money and there are several agents.
// More keys than an issuer gives leaves of the same names are refused.
func ChooseSharing(wanted Sharing, agents int, issuers []Issuer) (Sharing, error) {
	if wanted == "" {
		for _, issuer := range issuers {
			if agents > 1 && (issuer.Duplicates.Count > 0 || issuer.Priced) {
				return SharingShared, nil
			}
		}
		return SharingPerAgent, nil
	}
	if wanted == SharingShared {
		return wanted, nil
	}
	if wanted != SharingPerAgent {
		return "", InvalidField("/sharing", "must be per_agent or shared")
	}
	for _, issuer := range issuers {
		if limit := issuer.Duplicates; limit.Count > 0 && agents > limit.Count {
			return "", InvalidField("/sharing", "%d agents with a key each need %d leaves of the same names; the issuer %s gives %d in %s: it would take %s",
				agents, agents, issuer.Name, limit.Count, spokenTime(time.Duration(limit.Per)), spokenTime(limit.timeFor(agents))).
				WithRemedy("use sharing: shared")
		}
	}
	return wanted, nil
}

// timeFor is how long a number of things takes at the rate, when as many as it
// allows at once are free.
func (r Rate) timeFor(n int) time.Duration {
	return time.Duration(float64(r.Per) / float64(r.Count) * float64(n-r.Count))
}

// spokenTime is a duration as a person says it.
func spokenTime(d time.Duration) string {
	if d < 2*Day {
		return fmt.Sprintf("%d hours", (d+time.Hour-1)/time.Hour)
	}
	return fmt.Sprintf("%d days", (d+Day/2)/Day)
}

// keySentences say who has the shared key, and who waits for it.
func (h Holder) keySentences(made bool) []string {
	say := []string{fmt.Sprintf("It is one key for %d agents.", len(h.Members))}
	if !made {
		return say
	}
	for _, state := range []struct {
		state KeyState
		text  string
	}{
		{KeyHeld, "The key is on: %s."},
		{KeySent, "The key is sealed for, and on its way to: %s."},
		{KeyWaited, "These wait for another member to seal the key for them: %s."},
		{KeyRefused, "These do not get the key, since the fleet key does not vouch for them: %s. Enrol them anew."},
	} {
		var names []string
		for i, k := range h.Keys {
			if k.State == state.state {
				names = append(names, h.Members[i].Name)
			}
		}
		if len(names) > 0 {
			say = append(say, fmt.Sprintf(state.text, strings.Join(names, ", ")))
		}
	}
	return say
}
