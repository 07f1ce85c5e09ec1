//go:build alldns

package legodns

import (
	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/providers/dns"
)

// more makes a provider of acme.LegoProviders that has no constructor here. That
// it links all of lego's, eighty modules, is why it is a build of its own.
func more(name string) (challenge.Provider, error) { return dns.NewDNSChallengeProviderByName(name) }
