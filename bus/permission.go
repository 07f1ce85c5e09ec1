package bus

import (
	"github.com/nats-io/jwt/v2"

	"github.com/certctl/certctl"
)

// Role is a kind of user of the platform's account: one per role of
// certctl-server, each with what that role does on the bus and no more.
type Role string

const (
	RoleAPI       Role = "api"       // gives hints, tells events, asks the signer, follows events
	RoleWorker    Role = "worker"    // takes hints, answers reports
	RoleSigner    Role = "signer"    // takes hints, answers mailboxes and the api
	RoleScheduler Role = "scheduler" // takes and gives hints, tells leftover events, reads them again after a restore
)

// Roles lists every role.
var Roles = []Role{RoleAPI, RoleWorker, RoleSigner, RoleScheduler}

// Limits of those outside the platform. An agent holds one subscription for its
// commands and one for all answers; the rest is room for a reconnect.
const (
	agentSubscriptions  = 8
	agentPayload        = 256 << 10 // bytes; a report of a thousand receipts fits
	readerSubscriptions = 16
	readerPayload       = 16 << 10 // bytes; a pull request or an acknowledgement
	readerConnections   = 16
)

// anyone stands for one token of a subject in exports and in the permissions of
// the platform's own roles.
const anyone = "*"

// userName is what the broker replaces by the user's name in a scoped template.
// The name must be an id that we minted: a user named * would be given
// everybody's subjects.
const userName = "{{name()}}"

// The subjects that accounts and permissions speak of, as patterns: the functions
// in subject.go make and read the subjects of one id, these take a wildcard or a
// template in its place. A test holds the two together.

func patternCommands(agent string) string { return prefixAgent + agent + suffixCommands }
func patternAsks(agent string) string     { return prefixAgent + agent + infixAsk + anyone }
func patternInbox(user string) string     { return prefixInbox + user + ".>" }
func patternReader(reader string) string  { return "reader-" + reader }

const (
	patternBells    = prefixAgent + anyone + suffixBell
	patternIntents  = prefixIntent + ">"
	patternEvents   = prefixEvent + ">"
	patternServices = prefixSigner + anyone

	// patternExported is what the broker makes of the reply of a request that came
	// through an export. Nobody can name it as a reply himself.
	patternExported = prefixReply + ">"

	// patternVoid is where nobody may subscribe; $1 is the agent's token.
	patternVoid = "certctl.v1.void.$1.>"

	// patternClaims and patternLookup are for the system account's one user.
	patternClaims = "$SYS.REQ.CLAIMS.UPDATE"
	patternLookup = "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"
)

// ReaderAPIPrefix stands in place of $JS.API in what readers ask for; it is the
// prefix to give to jetstream.NewWithAPIPrefix.
const ReaderAPIPrefix = "certctl.v1.reader"

// Requests to JetStream about one consumer, without their prefix.
func consumerInfo(stream, consumer string) string { return "CONSUMER.INFO." + stream + "." + consumer }
func consumerNext(stream, consumer string) string {
	return "CONSUMER.MSG.NEXT." + stream + "." + consumer
}
func acknowledgements(stream, consumer string) string {
	return "$JS.ACK." + stream + "." + consumer + ".>"
}

const jetStreamAPI = "$JS.API."

// agentTemplate is what every agent may do. Requests go out under its own name,
// commands and answers come in under its own name, and nothing else exists.
func agentTemplate() jwt.UserPermissionLimits {
	return outsider(agentSubscriptions, agentPayload,
		jwt.StringList{patternAsks(userName)},
		jwt.StringList{patternCommands(userName), patternInbox(userName)})
}

// readerTemplate is what every reader may do: look at, pull from and
// acknowledge to the one consumer that bears its name.
func readerTemplate() jwt.UserPermissionLimits {
	consumer := patternReader(userName)
	return outsider(readerSubscriptions, readerPayload,
		jwt.StringList{
			ReaderAPIPrefix + "." + consumerInfo(StreamEvent, consumer),
			ReaderAPIPrefix + "." + consumerNext(StreamEvent, consumer),
			acknowledgements(StreamEvent, consumer),
		},
		jwt.StringList{patternInbox(userName)})
}

// pusherTemplate lets the signer hand newer account documents to an external
// broker.
func pusherTemplate() jwt.UserPermissionLimits {
	return insider(jwt.StringList{patternClaims, patternLookup}, jwt.StringList{patternInbox(userName)})
}

// roleTemplate is what a role of the server may do. Nobody may delete or purge a
// stream or publish as an agent; responders can answer only what came through
// the exports and, for the signer, the other roles. So an answer that a stranger
// wants sent to a subject of his choice is refused by the broker, too.
func roleTemplate(role Role) (jwt.UserPermissionLimits, error) {
	publish := append(jwt.StringList{patternIntents, patternEvents, patternBells}, superviseStreams()...)
	subscribe := jwt.StringList{patternInbox(userName)}
	switch role {
	case RoleAPI:
		publish = append(append(publish, patternServices), consumeFrom(StreamEvent)...)
	case RoleWorker:
		publish = append(append(publish, patternExported), consumeFrom(StreamIntent)...)
		subscribe = append(subscribe, subjectAsks(askReport))
	case RoleSigner:
		publish = append(append(publish, patternExported, patternInbox(anyone)), consumeFrom(StreamIntent)...)
		subscribe = append(subscribe, subjectAsks(askMailbox), patternServices)
	case RoleScheduler:
		publish = append(append(publish, consumeFrom(StreamIntent)...), consumeFrom(StreamEvent)...)
	default:
		return jwt.UserPermissionLimits{}, certctl.Errorf(certctl.Invalid, "the bus knows no role %q", certctl.Clip(string(role), 40))
	}
	return insider(publish, subscribe), nil
}

// superviseStreams lets every role make and mend the two streams and their
// consumers, since any of them may be the first to meet a wiped broker.
func superviseStreams() jwt.StringList {
	allow := jwt.StringList{jetStreamAPI + "INFO"}
	for _, stream := range []string{StreamIntent, StreamEvent} {
		for _, request := range []string{
			"STREAM.INFO.", "STREAM.CREATE.", "STREAM.UPDATE.", "CONSUMER.NAMES.", "CONSUMER.LIST.",
		} {
			allow = append(allow, jetStreamAPI+request+stream)
		}
		allow = append(allow,
			jetStreamAPI+"CONSUMER.CREATE."+stream+".>",
			jetStreamAPI+"CONSUMER.DELETE."+stream+".*",
			jetStreamAPI+consumerInfo(stream, anyone))
	}
	return allow
}

// consumeFrom lets a role fetch and acknowledge messages of a stream.
func consumeFrom(stream string) jwt.StringList {
	return jwt.StringList{jetStreamAPI + consumerNext(stream, anyone), acknowledgements(stream, anyone)}
}

// outsider returns the limits of somebody who is not believed: plain connections
// only, few subscriptions, small messages.
func outsider(subscriptions, payload int64, publish, subscribe jwt.StringList) jwt.UserPermissionLimits {
	limits := insider(publish, subscribe)
	limits.NatsLimits = jwt.NatsLimits{Subs: subscriptions, Data: jwt.NoLimit, Payload: payload}
	limits.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard}
	return limits
}

// insider returns the limits of one of the platform's own processes.
func insider(publish, subscribe jwt.StringList) jwt.UserPermissionLimits {
	return jwt.UserPermissionLimits{
		Permissions: jwt.Permissions{Pub: jwt.Permission{Allow: publish}, Sub: jwt.Permission{Allow: subscribe}},
		Limits:      jwt.Limits{NatsLimits: jwt.NatsLimits{Subs: jwt.NoLimit, Data: jwt.NoLimit, Payload: jwt.NoLimit}},
		AllowedConnectionTypes: jwt.StringList{
			jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess,
		},
	}
}
