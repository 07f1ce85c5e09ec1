package discover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target"
)

// Proposal is what a daemon's configuration suggests.
type Proposal struct {
	Daemon   string    `yaml:"daemon" json:"daemon"` // as it says itself
	Targets  []Target  `yaml:"targets" json:"targets"`
	Problems []Problem `yaml:"problems,omitempty" json:"problems,omitempty"`
	// Policy are the lines that the node's policy file lacks for these targets.
	Policy *Policy `yaml:"policy,omitempty" json:"policy,omitempty"`
	// Changes is a patch of the configuration, below /: "patch -d / -p0".
	Changes string `yaml:"changes,omitempty" json:"changes,omitempty"`
}

// Policy are lines of a policy file.
type Policy struct {
	Kinds       []string   `yaml:"kinds,omitempty" json:"kinds,omitempty"`
	Directories []string   `yaml:"directories,omitempty" json:"directories,omitempty"`
	ConfigRoots []string   `yaml:"config_roots,omitempty" json:"config_roots,omitempty"`
	Commands    [][]string `yaml:"commands,omitempty,flow" json:"commands,omitempty"`
}

// Target is one to be made. All of its certificates are served at all of its
// addresses, since an installation is proven there.
type Target struct {
	Name     string         `yaml:"name" json:"name"`
	Agent    string         `yaml:"agent" json:"agent"`
	Kind     string         `yaml:"kind" json:"kind"`
	Settings map[string]any `yaml:"settings" json:"settings"`
	Places   []Place        `yaml:"places" json:"places"`
}

// Place is a certificate that is in use, and where it is to be.
type Place struct {
	Place        string         `yaml:"place" json:"place"`
	Slot         certctl.Slot   `yaml:"slot" json:"slot"`
	Names        []string       `yaml:"names" json:"names"`
	Certificate  string         `yaml:"certificate" json:"certificate"` // files
	Key          string         `yaml:"key" json:"key"`
	Chain        string         `yaml:"chain,omitempty" json:"chain,omitempty"` // a file with the chain, beside the certificate's
	Serial       string         `yaml:"serial" json:"serial"`
	Fingerprint  certctl.Digest `yaml:"fingerprint" json:"fingerprint"`
	NotAfter     time.Time      `yaml:"not_after" json:"not_after"`
	ConfiguredAt []string       `yaml:"configured_at,omitempty" json:"configured_at,omitempty"`
}

// Files are what a place of a target of this kind takes over.
func (p Place) Files(kind string) Files {
	return Files{Kind: kind, Certificate: p.Certificate, Key: p.Key, Chain: p.Chain}
}

// readers are the daemons that can be read.
var readers = map[string]func(context.Context, Options) (*found, error){"nginx": nginx, "apache": apache, "haproxy": haproxy}

// Kinds are the kinds of targets whose daemons can be read.
func Kinds() []string { return slices.Sorted(maps.Keys(readers)) }

// Inspect reads a daemon of this node and proposes targets of an agent for it.
func Inspect(ctx context.Context, kind, agent string, o Options) (Proposal, error) {
	read, known := readers[kind]
	if !known {
		return Proposal{}, certctl.InvalidField("kind", "%q cannot be read, but %s", certctl.Clip(kind, 40), strings.Join(Kinds(), ", "))
	}
	if o.Directory == "" {
		o.Directory = "/etc/certctl/live/" + kind
	}
	f, err := read(ctx, o)
	if err != nil {
		return Proposal{}, err
	}
	p := &proposer{found: f, agent: agent, directory: o.Directory, names: map[string]string{}, sent: map[certctl.Digest][]string{}}
	p.propose(ctx)
	changes, err := patch(p.edits)
	return Proposal{Daemon: f.version, Targets: p.targets, Problems: f.problems, Changes: changes}, err
}

// proposer makes targets of uses.
type proposer struct {
	*found
	agent, directory string
	targets          []Target
	names            map[string]string           // certificate file by place
	sent             map[certctl.Digest][]string // names to send, by certificate
	edits            []replacement
}

func (p *proposer) propose(ctx context.Context) {
	for _, u := range p.uses {
		place, err := p.place(u)
		if err != nil {
			p.problem(u.cert, certctl.ErrorMessage(err), remedyOf(err))
			continue
		}
		target := p.target(u)
		target.Places = append(target.Places, place)
		p.replace(u, place, fmt.Sprint(target.Settings["directory"]))
		p.probe(ctx, u, place)
	}
	for i := range p.targets {
		t := &p.targets[i]
		slices.SortFunc(t.Places, func(a, b Place) int { return strings.Compare(a.Place+string(a.Slot), b.Place+string(b.Slot)) })
	}
}

func remedyOf(err error) string {
	if ours, ok := err.(*certctl.Error); ok { //nolint:errorlint // only ours as it is
		return ours.Remedy
	}
	return ""
}

// target is the one of a set of addresses, and of a folder of links.
func (p *proposer) target(u *use) *Target {
	settings := maps.Clone(p.settings)
	settings["listen"] = u.listen
	if u.links != "" {
		settings["links"] = u.links
	}
	for i := range p.targets {
		settings["directory"] = p.targets[i].Settings["directory"]
		if reflect.DeepEqual(p.targets[i].Settings, settings) {
			return &p.targets[i]
		}
	}
	name := p.agent + "-" + p.kind
	settings["directory"] = p.directory
	if n := len(p.targets); n > 0 { // targets of one node have a directory each
		name, settings["directory"] = fmt.Sprintf("%s-%d", name, n+1), fmt.Sprintf("%s-%d", p.directory, n+1)
	}
	p.targets = append(p.targets, Target{Name: name, Agent: p.agent, Kind: p.kind, Settings: settings})
	return &p.targets[len(p.targets)-1]
}

// place reads the certificate of a use, and finds a name and a slot for it.
func (p *proposer) place(u *use) (Place, error) {
	pair, err := Files{Kind: p.kind, Certificate: u.cert, Key: u.key, Chain: u.chain}.Read()
	if err != nil {
		return Place{}, err
	}
	facts, err := certctl.ParseLeaf(pair.Leaf)
	if err != nil {
		return Place{}, err
	}
	if err := target.CheckSeed(pair.Leaf, pair.Chain, pair.Key, time.Now()); err != nil {
		return Place{}, certctl.Errorf(certctl.ErrorCode(err), "cannot be taken over: %s", certctl.ErrorMessage(err)).
			WithRemedy("have it renewed, with a file in which each certificate is followed by its issuer's, and inspect again")
	}
	p.sent[facts.Fingerprint] = target.ServerNames(facts.Names)
	out := Place{
		Place: p.placeName(u, facts), Slot: certctl.SlotDefault, Names: facts.Names.Strings(), Certificate: u.cert, Key: u.key, Chain: u.chain,
		Serial: string(facts.Serial), Fingerprint: facts.Fingerprint, NotAfter: facts.NotAfter,
	}
	if u.paired {
		out.Slot = certctl.SlotECDSA
		if strings.HasPrefix(string(facts.Algorithm), "rsa") {
			out.Slot = certctl.SlotRSA
		}
	}
	for _, e := range u.edits {
		if !e.Key && !e.Drop {
			out.ConfiguredAt = append(out.ConfiguredAt, place(e.File, e.Line))
		}
	}
	return out, nil
}

// placeName is the name that the certificate's users would give it: the folder's of
// an ACME client, else its first name. The two of a pair have one name.
func (p *proposer) placeName(u *use, facts certctl.Leaf) string {
	if u.place != "" {
		return u.place
	}
	if place := p.taken(u.cert); place != "" {
		return place
	}
	file := u.cert
	if u.paired {
		file = u.pair
	}
	name := filepath.Base(filepath.Dir(u.cert))
	if !slices.Contains(facts.Names.DNS, name) {
		name = filepath.Base(u.cert)
		name = strings.TrimSuffix(name, filepath.Ext(name))
		if len(facts.Names.DNS) > 0 {
			name = strings.Replace(facts.Names.DNS[0], "*", "wildcard", 1)
		}
	}
	for known, taken := range p.names {
		if taken == file {
			return known
		}
	}
	unique := name
	for n := 2; p.names[unique] != "" || certctl.CheckPlace(unique) != nil; n++ {
		if unique = fmt.Sprintf("%s-%d", name, n); n > 1000 {
			unique = "certificate"
		}
	}
	p.names[unique] = file
	return unique
}

// taken is the place of a file that is one's already; "" for none.
func (p *proposer) taken(file string) string {
	rest, below := strings.CutPrefix(file, p.directory)
	_, rest, _ = strings.Cut(rest, "/") // of further targets, too
	folder, rest, _ := strings.Cut(rest, "/")
	if !below || !strings.HasPrefix(rest, "current/") {
		return ""
	}
	place, _, _ := strings.Cut(folder, "~")
	return place
}

// replace notes what the lines of a use are to say.
func (p *proposer) replace(u *use, at Place, directory string) {
	folder := at.Place
	if at.Slot != certctl.SlotDefault {
		folder += "~" + string(at.Slot)
	}
	current := filepath.Join(directory, folder, "current")
	for _, e := range u.edits {
		r := replacement{Edit: e, text: filepath.Join(current, "fullchain.pem")}
		switch {
		case p.kind == "haproxy":
			r.text = filepath.Join(current, "bundle.pem")
		case e.Key:
			r.text = filepath.Join(current, "privkey.pem")
		}
		if r.text != r.Old && !slices.Contains(p.edits, r) {
			p.edits = append(p.edits, r)
		}
	}
}

// probe compares what is served with what is configured: an installation is proven
// by that, for every name of the certificate.
func (p *proposer) probe(ctx context.Context, u *use, at Place) {
	for _, address := range u.listen {
		for _, name := range p.sent[at.Fingerprint] {
			served, err := probe.TLSOf(ctx, address, name, at.signature())
			if errors.Is(err, probe.ErrOnlyTLS13) {
				break // it chooses which of a pair it shows
			}
			if err != nil {
				p.problem(address, at.silence(name), "does the daemon run, and listen there?")
				break
			}
			if served.Fingerprint != at.Fingerprint {
				p.problem(u.cert, fmt.Sprintf("is for %s, and %s serves another certificate for it", name, address),
					"a certificate of this place must be served for each of its names: ask for one without this name, or have a server of the daemon answer to it")
			}
		}
	}
}

// signature is how a place's key is asked for.
func (p Place) signature() probe.Signature {
	switch p.Slot {
	case certctl.SlotRSA:
		return probe.RSA
	case certctl.SlotECDSA:
		return probe.ECDSA
	}
	return probe.AnySignature
}

// silence is what is said of a listener that does not answer.
func (p Place) silence(name string) string {
	if p.signature() == probe.AnySignature {
		return "does not answer: what is served there is not known"
	}
	return fmt.Sprintf("does not answer those for %s who take no certificate but one of the slot %s", name, p.Slot)
}

// or fills in where packages have a daemon.
func (o Options) or(config, binary, pidFile string) Options {
	for _, s := range []struct {
		value *string
		usual string
	}{{&o.Config, config}, {&o.Binary, binary}, {&o.PIDFile, pidFile}} {
		if *s.value == "" {
			*s.value = s.usual
		}
	}
	return o
}

// settings of a target for the daemon, but for its places and addresses.
func (o Options) settings() map[string]any {
	s := map[string]any{"config": o.Config, "binary": o.Binary, "pid_file": o.PIDFile}
	if len(o.Reload) > 0 {
		s["reload"] = o.Reload
		delete(s, "pid_file")
	}
	return s
}

// place is a line of a file, as people and editors write it.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// realPath follows links, so that a patch finds a file and not a link to it.
func realPath(path string) string {
	if followed, err := filepath.EvalSymlinks(path); err == nil {
		return followed
	}
	return path
}

func readLines(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the configuration cannot be read")
	}
	return strings.Split(string(content), "\n"), nil
}
