// Package agent is the far side of certctl: it makes keys where they are used,
// installs what the server asks for, proves what is served, and says so under
// its own signature.
//
// It guarantees:
//   - a private key that it made never leaves the node;
//   - it obeys only commands that carry a command key's signature, are addressed
//     to it, have not ended, and are newer than what it carried out; the broker
//     and the server that carries a message are not believed;
//   - the node's policy file has the last word: nothing that the server sends
//     can widen it;
//   - what it has done and not yet been able to report survives kill -9 and a
//     power cut at any moment, and is reported until the server has recorded it;
//   - it works with what it has while it is offline.
//
// One walk:
//
//	bell, reconnect, next_after ─► ask the mailbox (signed) ─► verify each command
//	                                                             │
//	       ┌──────────────────── by target, in parallel ─────────┴─ keys
//	       ▼                                                        ▼
//	 target.Apply: stage, check, switch, reload, probe        key file, CSR
//	       │                                                        │
//	       └────► journal: number, receipt, outgoing report ◄───────┘
//	                              │ (one synced append)
//	                              ▼
//	             report, repeated until recorded ─► forgotten by the journal
//
// What fails, and what happens then:
//
//	killed before the journal's append    the command is still open: the mailbox
//	                                      gives it again; Recover ends a half-done switch
//	killed after it                       the report is sent at the next start
//	a report's answer is lost             it is repeated; the server knows it already
//	killed while a next key is made       the install command comes again; the key
//	                                      is handed over in the receipt's own append
//	a command comes again                 its stored report is the answer
//	killed while a CA is to be answered   the journal knew before anything was written:
//	                                      at the next start it is answered again, or removed
//	the journal's last line is torn       it had not been acknowledged to anybody
//	credentials have ended                they are renewed over HTTPS with the signing key
//	command keys, CA or addresses change  a newer trust document, signed by the
//	                                      pinned fleet key, comes with any answer
//	retired, or another session took over Run ends with an error of its own
//
// The state directory, 0700, files 0600:
//
//	identity.json     who this node is, and the pinned fleet key
//	node-keys.json    the private bus, signing and sealing keys
//	trust.json        the newest trust document, as it was signed
//	credentials.json  the bus log-in
//	journal           see Journal
//	keys/<spki>.pem   private keys of leaves
//	targets/          the state of target drivers
//	agent.sock        live state; see Health
//	lock              held while the agent runs
package agent
