//go:build !alldns

package legodns

import (
	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/go-acme/lego/v4/challenge"
)

// more says why there is no such provider in this build.
func more(name string) (challenge.Provider, error) {
	return nil, certctl.Errorf(certctl.Invalid, "%s", acme.NotInThisBuild(name))
}
