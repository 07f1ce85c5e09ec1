package certctl

// ChallengeHeader is how certctl's answers below /.well-known/acme-challenge/ are
// known, also where there is no token: it names the installation.
const ChallengeHeader = "Certctl-Installation"

// PreflightCheck is something that a CA will look at before it issues, looked at
// from here. What can only be seen from elsewhere may differ.
type PreflightCheck struct {
	Name    string // that is to be proven; "" = the issuer itself
	Check   string // directory, rule, caa, address, http or dns
	OK      bool
	Message string // what was found
	Remedy  string // what to do, where it is not as it should be
}
