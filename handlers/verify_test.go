package handlers_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// Somebody who may write to the database, and puts keys of his own beside an
// agent's, is not taken for the agent: neither by a process that has believed the
// agent a moment before, nor by one that has just started.
func TestSwappedKeysAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for what, swap := range map[string]func(n, thief *node){
		"another key beside the agent's": func(*node, *node) {},
		"with the thief's own word for it": func(n, thief *node) {
			word, err := certctl.NewStatement(thief.signing, certctl.Statement{
				Domain: certctl.DomainEnrolment, Installation: w.installation, Agent: n.id, Kind: "agent", Time: time.Now(),
			}, certctl.AgentKeys{Bus: n.keys.Bus, Signing: thief.keys.Signing, Sealing: n.keys.Sealing})
			w.must(err)
			w.exec(`update agent set statement = $2 where id = $1`, n.id, word)
		},
	} {
		n := w.newNode("web-" + strconv.Itoa(len(what)))
		n.mailbox() // the server believes the agent
		thief := w.stranger("thief")
		thief.id = n.id
		w.exec(`insert into agent_key (agent_id, kind, public, since) values ($1, 'signing', $2, now() + interval '1 hour')`, n.id, thief.keys.Signing)
		swap(n, thief)
		for _, process := range []string{"that knew the agent", "that has just started"} {
			reply := w.mailboxes.Answer(w.ctx, []certctl.Statement{thief.asks()})[0]
			if certctl.ErrorCode(reply.Err) != certctl.Denied {
				t.Errorf("%s, a process %s: %v", what, process, reply.Err)
			}
			w.open()
		}
	}
}
