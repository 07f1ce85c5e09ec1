package node

import (
	"context"

	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/bus"
	"github.com/rs/zerolog"
)

func newBusKey() (seed []byte, public string, err error) { return bus.NewUserKey() }

// dial connects to the bus as package agent wants it.
func dial(log zerolog.Logger) agent.Dial {
	return func(ctx context.Context, o agent.DialOptions) (agent.Conn, error) {
		conn, err := bus.DialAgent(ctx, bus.AgentOptions{
			URLs: o.URLs, Agent: o.Agent, UserJWT: o.UserJWT, TLS: o.TLS, Log: log,
			Sign: func(nonce []byte) ([]byte, error) { return bus.SignNonce(o.BusSeed, nonce) },
		})
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}
