package main

import "time"

// Globals are the settings of every command. What is not given comes from the
// context file.
type Globals struct {
	Server  string        `help:"URL of the API."`
	Key     string        `help:"API key." secret:""`
	CAFile  string        `help:"File with the root certificate of the API." type:"path" name:"ca-file"`
	Context string        `help:"Name of the context to use, from the contexts file."`
	Output  string        `help:"table, json or yaml." short:"o" default:"table" enum:"table,json,yaml"`
	Timeout time.Duration `help:"How long a command may take; 0 = for ever." default:"2m"`
}

// CLI is the tree of commands.
type CLI struct {
	Globals

	Certificates    certificatesCmd  `cmd:"" aliases:"certificate,certs,cert" help:"What should exist."`
	Orders          ordersCmd        `cmd:"" aliases:"order" help:"The duty to get one leaf."`
	Versions        versionsCmd      `cmd:"" aliases:"version" help:"Leaves that exist."`
	Deployments     deploymentsCmd   `cmd:"" aliases:"deployment" help:"Versions on their way to targets."`
	Agents          agentsCmd        `cmd:"" aliases:"agent" help:"Nodes."`
	JoinTokens      joinTokensCmd    `cmd:"" aliases:"join-token" help:"Tokens that let machines enrol."`
	Targets         targetsCmd       `cmd:"" aliases:"target" help:"Daemons and stores on nodes."`
	Issuers         issuersCmd       `cmd:"" aliases:"issuer" help:"Connections to certificate authorities."`
	Profiles        profilesCmd      `cmd:"" aliases:"profile" help:"What may be issued."`
	RenewalPolicies policiesCmd      `cmd:"" aliases:"renewal-policy,policies,policy" help:"When it is renewed."`
	Plan            planCmd          `cmd:"" help:"Simulate the renewals to come."`
	Freezes         freezesCmd       `cmd:"" aliases:"freeze" help:"Times in which nothing is renewed."`
	Principals      principalsCmd    `cmd:"" aliases:"principal" help:"Who may act."`
	APIKeys         apiKeysCmd       `cmd:"" name:"api-keys" aliases:"api-key" help:"Keys of principals."`
	Events          eventsCmd        `cmd:"" aliases:"event" help:"Who did what."`
	Channels        channelsCmd      `cmd:"" aliases:"channel" help:"Who is told of events: mailboxes, chat rooms, on-call services, web hooks."`
	Notifications   notificationsCmd `cmd:"" aliases:"notification" help:"What channels are told."`
	DeadLetters     deadLettersCmd   `cmd:"" aliases:"dead-letter" help:"Work that was set aside."`
	Contexts        contextsCmd      `cmd:"" aliases:"context" help:"Installations that this command line knows."`
	Doctor          doctorCmd        `cmd:"" help:"Look for what is wrong."`
	Whoami          whoamiCmd        `cmd:"" help:"Whose key this is."`
	Completion      completionCmd    `cmd:"" help:"Print shell completion."`
	About           aboutCmd         `cmd:"" help:"Print version and commit of this program."`
	Complete        completeCmd      `cmd:"" hidden:"" help:"Answer shell completion."`

	Revocations revocationsCmd `cmd:"" aliases:"revocation" help:"What is revoked, or waits to be."`
	Rollouts    rolloutsCmd    `cmd:"" aliases:"rollout" help:"Changes of many certificates at once, in waves."`
	Guard       guardCmd       `cmd:"" help:"What keeps a change from re-issuing too much at once."`
}
