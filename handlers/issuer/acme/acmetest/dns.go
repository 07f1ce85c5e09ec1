package acmetest

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// DNS is a server that is the authority for everything: every name leads to the
// loopback address, TXT records are what clients have written. It takes signed
// updates (RFC 2136, RFC 8945).
type DNS struct {
	Address   string
	TSIGKey   string
	TSIGValue string // base64

	mu    sync.Mutex // guards the rest
	txt   map[string][]string
	most  map[string]int
	stale int               // answers that do not show what is written yet
	names map[string]string // CNAMEs
}

func startDNS(t testing.TB) *DNS {
	t.Helper()
	d := &DNS{TSIGKey: "certctl.", TSIGValue: "c2VjcmV0IG9mIHRoZSB0ZXN0IHNlcnZlcg==", txt: map[string][]string{}, most: map[string]int{}, names: map[string]string{}}
	var tcp net.Listener
	var udp net.PacketConn
	for { // until a port is free for both
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		_ = tcp.Close()
	}
	d.Address = tcp.Addr().String()
	secrets := map[string]string{d.TSIGKey: d.TSIGValue}
	accept := func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // the default refuses updates
	for _, server := range []*dns.Server{{Listener: tcp}, {PacketConn: udp}} {
		started := make(chan struct{})
		server.Handler, server.TsigSecret, server.MsgAcceptFunc = d, secrets, accept
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return d
}

// ServeDNS implements dns.Handler.
func (d *DNS) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(r)
	answer.Authoritative = true
	if r.Opcode == dns.OpcodeUpdate {
		d.update(w, r, answer)
	} else {
		d.query(r.Question, answer)
	}
	_ = w.WriteMsg(answer)
}

func (d *DNS) query(questions []dns.Question, answer *dns.Msg) {
	for _, q := range questions {
		if target := d.target(q.Name); target != "" {
			answer.Answer = append(answer.Answer, &dns.CNAME{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: target,
			})
			q.Name = target
		}
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
		switch q.Qtype {
		case dns.TypeA:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeTXT:
			for _, value := range d.shown(q.Name) {
				answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{value}})
			}
		}
	}
}

func (d *DNS) update(w dns.ResponseWriter, r, answer *dns.Msg) {
	if r.IsTsig() == nil || w.TsigStatus() != nil {
		answer.Rcode = dns.RcodeNotAuth
		return
	}
	for _, rr := range r.Ns {
		txt, ok := rr.(*dns.TXT)
		switch {
		case !ok:
			answer.Rcode = dns.RcodeRefused
		case txt.Hdr.Class == dns.ClassNONE:
			d.Remove(txt.Hdr.Name, txt.Txt[0])
		default:
			d.Add(txt.Hdr.Name, txt.Txt[0])
		}
	}
	answer.SetTsig(d.TSIGKey, dns.HmacSHA256, 300, time.Now().Unix())
}

// Add adds a value to a record.
func (d *DNS) Add(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = dns.CanonicalName(name)
	if !slices.Contains(d.txt[name], value) {
		d.txt[name] = append(d.txt[name], value)
	}
	d.most[name] = max(d.most[name], len(d.txt[name]))
}

// Remove removes one value of a record.
func (d *DNS) Remove(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = dns.CanonicalName(name)
	d.txt[name] = slices.DeleteFunc(d.txt[name], func(v string) bool { return v == value })
	if len(d.txt[name]) == 0 {
		delete(d.txt, name)
	}
}

// Delegate makes a name a CNAME.
func (d *DNS) Delegate(name, target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[dns.CanonicalName(name)] = dns.CanonicalName(target)
}

func (d *DNS) target(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[dns.CanonicalName(name)]
}

// TXT returns all records that there are.
func (d *DNS) TXT() map[string][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]string{}
	for name, values := range d.txt {
		out[name] = slices.Clone(values)
	}
	return out
}

// Most is how many values a record has had at once.
func (d *DNS) Most(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.most[dns.CanonicalName(name)]
}

// Lag lets so many answers not show what is written.
func (d *DNS) Lag(answers int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stale = answers
}

func (d *DNS) shown(name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale > 0 {
		d.stale--
		return nil
	}
	return slices.Clone(d.txt[dns.CanonicalName(name)])
}
