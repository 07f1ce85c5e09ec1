package agent

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/challenge"
)

// maxProving bounds how many sets of proofs a mailbox request names.
const maxProving = 1000

// proofRecord is a set of proofs that a CA is to be answered with. It is journalled
// before anything is written, so that what a killed process has left is known.
type proofRecord struct {
	Number   int64           `json:"number"` // of the newest command carried out
	Proofs   []certctl.Proof `json:"proofs"`
	Webroots []string        `json:"webroots,omitempty"` // that they may have been written to
	Until    time.Time       `json:"until"`              // they are dropped then, whatever the server says
}

func proofKey(set certctl.ID) string { return "proof/" + set.String() }

// challenges are the places that the policy allows CAs to be answered at.
func (p *Policy) challenges() challenge.Places {
	return challenge.Places{HTTP: p.ChallengeHTTP, TLS: p.ChallengeTLS, Webroots: p.ChallengeWebroots}
}

// AllowProof says whether a CA may be answered with proofs of the type.
func (p *Policy) AllowProof(kind string) error {
	switch {
	case kind == certctl.ProofTLS && p.ChallengeTLS == "":
		return p.denied("answering tls-alpn-01", "challenge_tls")
	case kind == certctl.ProofHTTP && p.ChallengeHTTP == "" && len(p.ChallengeWebroots) == 0:
		return p.denied("answering http-01", "challenge_http or challenge_webroots")
	}
	return nil
}

// checkListen refuses what is no address to listen on; none is one.
func checkListen(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host != "" && net.ParseIP(host) == nil {
		return certctl.Errorf(certctl.Invalid, "%q must be an address and a port, like 0.0.0.0:80", certctl.Clip(address, 100))
	}
	return nil
}

// proving are the sets of proofs that are held.
func (a *Agent) proving() []certctl.ID {
	var sets []certctl.ID
	for _, key := range a.journal.Keys("proof/") {
		sets = append(sets, idOf(key))
	}
	return sets[:min(len(sets), maxProving)]
}

// prove carries out a command to hold proofs, or to drop them.
func (a *Agent) prove(j job) {
	if a.workCtx.Err() != nil {
		return
	}
	var before proofRecord
	known := a.journal.Get(proofKey(j.prove.Set), &before)
	switch {
	case known && j.statement.Number < before.Number:
		return // overtaken
	case len(j.prove.Proofs) == 0:
		a.dropProofs(j.prove.Set, before)
		return
	}
	if err := a.checkProofs(j.prove.Proofs); err != nil {
		a.dropProofs(j.prove.Set, before)
		a.refuse(j.statement, string(certctl.ErrorCode(err)), err)
		return
	}
	record := proofRecord{
		Number: j.statement.Number, Proofs: j.prove.Proofs, Webroots: a.keeper.Webroots(), Until: a.now().Add(certctl.KeepProofs),
	}
	if err := a.hold(j.prove.Set, before, record); err != nil {
		a.refuse(j.statement, "not_held", err)
		return
	}
	report, err := a.statement(certctl.ReportHeld, j.prove.Set, j.statement.Number, certctl.Refusal{})
	if err != nil {
		a.problem("report", err)
		return
	}
	a.log.Info().Stringer("set", j.prove.Set).Int("proofs", len(record.Proofs)).Msg("answering a CA")
	a.commit(func() []Change {
		refused := certctl.Statement{Kind: certctl.ReportRefusal, Object: j.prove.Set}
		return []Change{{reportKey(refused), nil}, reportChange(report)} // not both
	})
}

// hold answers with a set of proofs, in place of what was held before. The journal
// knows first what may be left of it. With an error nothing of it is held.
func (a *Agent) hold(set certctl.ID, before, record proofRecord) error {
	if before.Number > 0 && (!slices.Equal(before.Proofs, record.Proofs) || !slices.Equal(before.Webroots, record.Webroots)) {
		a.dropProofs(set, before)
	}
	if !a.commit(func() []Change { return []Change{{proofKey(set), record}} }) {
		return certctl.Errorf(certctl.Internal, "the journal cannot be written")
	}
	err := a.keeper.Hold(set, record.Proofs)
	if err != nil {
		a.dropProofs(set, record)
	}
	return err
}

// checkProofs says whether this node may and can hold proofs.
func (a *Agent) checkProofs(proofs []certctl.Proof) error {
	if len(proofs) > certctl.MaxProofs {
		return certctl.Errorf(certctl.Invalid, "a command has at most %d proofs", certctl.MaxProofs)
	}
	for _, p := range proofs {
		if err := p.Check(); err != nil {
			return err
		}
		if err := a.policy.AllowProof(p.Type); err != nil {
			return err
		}
	}
	return nil
}

// dropProofs answers with a set no more. What cannot be removed stays in the
// journal, and is tried again when the server says so or the agent starts anew.
func (a *Agent) dropProofs(set certctl.ID, record proofRecord) {
	if record.Number == 0 {
		return // there were none
	}
	if err := a.keeper.Drop(set, record.Proofs, record.Webroots); err != nil {
		a.problem("proofs", err)
		return
	}
	a.commit(func() []Change { return []Change{{proofKey(set), nil}} })
}

// holdAgain answers with what was held when the agent ended, and removes what a
// killed one has left that may be held no more. The server is told with the next
// question what is held.
func (a *Agent) holdAgain() {
	for _, key := range a.journal.Keys("proof/") {
		var record proofRecord
		if !a.journal.Get(key, &record) {
			continue
		}
		set, before := idOf(key), record
		record.Webroots = a.keeper.Webroots()
		err := a.checkProofs(record.Proofs)
		switch {
		case err != nil || !a.now().Before(record.Until):
			a.dropProofs(set, before)
		default:
			err = a.hold(set, before, record)
		}
		if err != nil {
			a.log.Warn().Stringer("set", set).Err(err).Msg("not answering a CA any more")
		}
	}
}

// dropOldProofs drops what nobody has taken back.
func (a *Agent) dropOldProofs() {
	for _, key := range a.journal.Keys("proof/") {
		var record proofRecord
		if a.journal.Get(key, &record) && !a.now().Before(record.Until) {
			a.dropProofs(idOf(key), record)
		}
	}
}

// dropAllProofs drops all.
func (a *Agent) dropAllProofs() {
	for _, key := range a.journal.Keys("proof/") {
		var record proofRecord
		if a.journal.Get(key, &record) {
			a.dropProofs(idOf(key), record)
		}
	}
}
