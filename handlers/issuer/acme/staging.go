package acme

import (
	"encoding/json"

	"github.com/certctl/certctl"
)

// stagings are where certificates are tested that directories would be asked for.
var stagings = map[string]string{
	directories["letsencrypt"]:         directories["letsencrypt-staging"],
	directories["letsencrypt-staging"]: directories["letsencrypt-staging"],
}

// Staging returns the issuer as certificates are tested with it, and the directory
// that is asked then: everything is as in earnest but the server, its account, who
// binds that, and its limits.
func Staging(issuer certctl.Issuer) (certctl.Issuer, string, error) {
	s, err := parseSettings(issuer.Settings)
	if err != nil {
		return issuer, "", err
	}
	if s.Staging == "" {
		s.Staging = stagings[s.Directory]
	}
	if s.Staging == "" {
		return issuer, "", certctl.Errorf(certctl.Conflict, "the issuer %s names no directory where certificates can be tested", issuer.Name).
			WithRemedy("set staging_directory to the CA's staging or test directory; one that certificates are issued from in earnest would count the tests")
	}
	s.Directory, s.Staging, s.EABService, s.Budgets = s.Staging, "", "", Budgets{}
	issuer.Settings, err = json.Marshal(s)
	return issuer, s.Directory, err
}
