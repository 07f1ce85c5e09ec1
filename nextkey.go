package certctl

// NextKey asks an agent, with an install command, to make the key of its
// holder's next leaf, too, and to hand its CSR over with the receipt: an
// ordinary renewal is then issued without asking the node, also while it is
// away. Names and algorithm are those of the certificate and its profile now.
type NextKey struct {
	Holder    ID           `json:"holder"`
	Names     Names        `json:"names"`
	Algorithm KeyAlgorithm `json:"algorithm"`
}

// NextCSR is a request that an agent has handed over for its holder's next key.
// The key has not been in service, so that it may be certified more than once
// until a leaf for it is installed.
type NextCSR struct {
	CSR   *CSR
	Agent ID // that has the key
}

// Reasons why a key that was handed over is not used for an order.
const (
	UnfitNames     = "names"     // the certificate has other names by now
	UnfitAlgorithm = "algorithm" // the profile wants another one
	UnfitReuse     = "reuse_key" // the profile wants the key in service again
	UnfitBlocked   = "blocked"
	UnfitAgent     = "agent" // another node holds the key now
)

// Unfit says why the key cannot be used for an order of the names and profile
// whose key an agent holds; "" where it can.
func (n NextCSR) Unfit(names Names, profile Profile, agent ID, blocked bool) string {
	switch {
	case n.Agent != agent:
		return UnfitAgent
	case blocked:
		return UnfitBlocked
	case profile.ReuseKey:
		return UnfitReuse
	case !n.CSR.Names.Equal(names):
		return UnfitNames
	case len(profile.KeyAlgorithms) == 0 || n.CSR.Algorithm != profile.KeyAlgorithms[0]:
		return UnfitAlgorithm
	}
	return ""
}
