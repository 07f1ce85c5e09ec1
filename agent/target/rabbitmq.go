package target

import (
	"context"
	"encoding/json"
	"regexp"
	"time"

	"github.com/certctl/certctl"
)

var rabbitmqKind = Descriptor{
	Kind: "rabbitmq", Title: "RabbitMQ", Hitless: true, Rollback: true, Probe: true, open: openRabbitMQ,
}

// rabbitmqSettings are the settings of a target of kind rabbitmq. Its configuration
// names the files: ssl_options.certfile and ssl_options.keyfile.
type rabbitmqSettings struct {
	// Directory holds the places.
	Directory string `json:"directory"`
	ownership
	// Binary is rabbitmqctl.
	Binary string `json:"binary,omitempty"`
	// Node is the name of the node, such as rabbit@web7, without Reload; default:
	// rabbitmqctl's own.
	Node string `json:"node,omitempty"`
	// Reload is an argument vector to run instead.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe.
	Listen []string `json:"listen"`
}

// rabbitmqNode is what Erlang calls a node.
var rabbitmqNode = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}$`)

// rabbitmqPatience bounds a reload: rabbitmqctl starts a virtual machine of its own,
// for which a busy node takes its time.
const rabbitmqPatience = 2 * time.Minute

// rabbitmq is told to forget: Erlang keeps what it has read of the files for minutes,
// and then reads them with the connections that come. Nothing else is reloaded, and
// connections stay.
type rabbitmq struct{ *owned }

func (r *rabbitmq) reload(ctx context.Context) error {
	return executeWithin(ctx, plainCommand(r.Reload), rabbitmqPatience)
}

func openRabbitMQ(raw json.RawMessage) (driver, error) {
	s := rabbitmqSettings{ownership: ownership{Owner: "rabbitmq"}, Binary: "/usr/sbin/rabbitmqctl"}
	if err := decode(raw, &s); err != nil {
		return nil, err
	}
	var bad certctl.FieldErrors
	absolute(&bad, "binary", s.Binary)
	if s.Node != "" && !rabbitmqNode.MatchString(s.Node) {
		bad.Add("/settings/node", "must be the name of a node, such as rabbit@web7")
	}
	if s.Node != "" && len(s.Reload) > 0 {
		bad.Add("/settings/node", "is for rabbitmqctl, which reload stands for: name the node in that")
	}
	if len(s.Reload) == 0 {
		s.Reload = []string{s.Binary}
		if s.Node != "" {
			s.Reload = append(s.Reload, "-n", s.Node)
		}
		s.Reload = append(s.Reload, "eval", "ssl:clear_pem_cache().")
	}
	r := &rabbitmq{newOwned(ownedSettings{Directory: s.Directory, ownership: s.ownership, Reload: s.Reload, Listen: s.Listen}, daemon{}, &bad)}
	r.validateReload(&bad)
	return r, bad.Err()
}
