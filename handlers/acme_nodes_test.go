package handlers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/challenge"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// prover is a node that answers CAs.
type prover struct {
	*node
	keeper *challenge.Keeper
	held   map[certctl.ID][]certctl.Proof
}

// newProver is a node that answers within handshakes, where the Pebble looks.
func (w *acmeWorld) newProver(name string) *prover {
	w.t.Helper()
	return w.proverFor(w.pebble, name)
}

func (w *acmeWorld) proverFor(server *acmetest.Server, name string) *prover {
	w.t.Helper()
	w.must(server.Handshakes.Close())
	p := &prover{node: w.newNode(name), held: map[certctl.ID][]certctl.Proof{}}
	p.keeper = challenge.NewKeeper(challenge.Places{TLS: server.Handshakes.Addr().String()})
	w.t.Cleanup(p.keeper.Close)
	return p
}

// works does what the mailbox says.
func (p *prover) works() {
	p.w.t.Helper()
	request := certctl.MailboxRequest{Session: p.session, MachineID: p.machine, Version: "test"}
	for set := range p.held {
		request.Proving = append(request.Proving, set)
	}
	reply := p.w.mailboxes.Answer(p.w.ctx, []certctl.Statement{p.says(certctl.ReportMailbox, certctl.NoID, 0, request)})[0]
	p.w.must(reply.Err)
	for _, c := range reply.Mailbox.Commands {
		var command certctl.ProveCommand
		if c.Kind != certctl.CommandProve {
			continue
		}
		p.w.must(c.Decode(&command))
		if len(command.Proofs) == 0 {
			p.w.must(p.keeper.Drop(command.Set, p.held[command.Set], nil))
			delete(p.held, command.Set)
			continue
		}
		p.w.must(p.keeper.Hold(command.Set, command.Proofs))
		p.held[command.Set] = command.Proofs
		if answer := p.reports(p.says(certctl.ReportHeld, command.Set, c.Number, certctl.Refusal{})); !answer.Recorded && !answer.Final {
			p.w.t.Errorf("answer %+v", answer)
		}
	}
}

func byNode(names ...string) func(*acme.Settings) {
	return func(s *acme.Settings) {
		s.Rules = []acme.Rule{{Type: "tls-alpn-01", By: &certctl.Answerers{Names: names}}}
	}
}

// Each worker dies right after it has recorded its first step, and the CA asks a
// node nevertheless, for names and for an address.
func TestAProofOfANodeSurvivesADeathBetweenEveryTwoSteps(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, byNode("edge"))
	edge := w.newProver("edge")
	c, _ := w.orderFor("shop", "shop.example.com", "www.shop.example.com")
	deaths := 0
	w.until("issued", func() *replica {
		w.lapse()
		edge.works()
		deaths++
		return w.worker(fmt.Sprint("worker", deaths), 1)
	}, w.issued(c))
	if n := w.pebble.Count(acmetest.NewOrder); n != 1 || deaths < 7 {
		t.Errorf("%d orders at the CA after %d deaths", n, deaths)
	}
	edge.works()
	edge.works()
	if len(edge.held) != 0 || w.count(`select count(*) from node_proof`) != 0 {
		t.Errorf("left: %v", edge.held)
	}
	w.clean()
}

// What is cancelled while nodes hold its proofs is taken back from them.
func TestACancelledOrderLeavesNoProofOnANode(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, byNode("edge"))
	edge := w.newProver("edge")
	c, order := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("waiting for the node", always(r), func() bool { return w.order(c).Wait == certctl.WaitNodes })
	if message := w.order(c).Message; !strings.Contains(message, "shop.example.com") || !strings.Contains(message, "edge has never been on line") {
		t.Errorf("it says %q", message)
	}
	edge.works()
	if len(edge.held) != 1 {
		t.Fatalf("held: %v", edge.held)
	}
	_, err := w.CancelOrder(w.ctx, w.admin, order)
	w.must(err)
	edge.works()
	if len(edge.held) != 0 {
		t.Errorf("left: %v", edge.held)
	}
	w.until("settled", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}

// An agent that nobody knows is a mistake that the order names.
func TestAnAnswererThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, byNode("nobody"))
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("refused for now", always(r), func() bool { return w.order(c).ErrorCode == "acme_answerers" })
	if message := w.order(c).Message; !strings.Contains(message, "no agent is called nobody") || !strings.Contains(message, "answered_by") {
		t.Errorf("it says %q", message)
	}
}
