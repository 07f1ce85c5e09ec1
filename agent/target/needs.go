package target

import (
	"encoding/json"

	"github.com/certctl/certctl"
)

// collector is a policy that allows everything and notes what another one would not.
type collector struct {
	policy Policy
	denied []error
}

func (c *collector) note(err error) error {
	if err != nil {
		c.denied = append(c.denied, err)
	}
	return nil
}

func (c *collector) AllowDirectory(path string) error { return c.note(c.policy.AllowDirectory(path)) }
func (c *collector) AllowConfig(path string) error    { return c.note(c.policy.AllowConfig(path)) }
func (c *collector) AllowCommand(argv []string) error { return c.note(c.policy.AllowCommand(argv)) }

// AllowSocket notes what a policy that knows no sockets does not allow, either.
func (c *collector) AllowSocket(path string) error {
	sockets, ok := c.policy.(SocketPolicy)
	if !ok {
		return c.note(errNoSockets())
	}
	return c.note(sockets.AllowSocket(path))
}

func (c *collector) AllowSocketUser(name string) error {
	if sockets, ok := c.policy.(SocketPolicy); ok {
		return c.note(sockets.AllowSocketUser(name))
	}
	return nil // AllowSocket has noted it
}

// needer is what holds its needs against a policy.
type needer interface{ allowed(p Policy) error }

// needer reads settings to what a kind of this package needs; nil: Open says why not,
// and kinds of other packages are asked by Open alone.
func (d Descriptor) needer(settings json.RawMessage) needer {
	if d.Parse == nil {
		if driver, err := d.open(settings); err == nil {
			return driver
		}
		return nil
	}
	opener, err := d.Parse(settings)
	if err != nil {
		return nil
	}
	n, _ := opener.(needer) // nil for other packages'
	return n
}

// Denied returns everything that a target needs and the node's policy does not
// allow, where Open stops at the first. It touches nothing.
func (t Table) Denied(spec certctl.TargetCommand, policy Policy) []error {
	d, err := t.find(spec.Kind)
	if err != nil {
		return nil
	}
	n := d.needer(spec.Settings)
	if n == nil {
		return nil
	}
	c := &collector{policy: policy}
	if err := n.allowed(c); err != nil {
		c.denied = append(c.denied, err)
	}
	return c.denied
}

// Needs is what a target touches on its node.
type Needs struct {
	Directories, Configs []string
	Commands             [][]string
}

// recorder is a policy that allows everything and notes what it was asked.
type recorder struct{ needs Needs }

func (r *recorder) AllowDirectory(path string) error {
	r.needs.Directories = append(r.needs.Directories, path)
	return nil
}

func (r *recorder) AllowConfig(path string) error {
	r.needs.Configs = append(r.needs.Configs, path)
	return nil
}

func (r *recorder) AllowCommand(argv []string) error {
	r.needs.Commands = append(r.needs.Commands, argv)
	return nil
}

// Needs returns what a target of a kind of this package touches.
func (t Table) Needs(kind string, settings json.RawMessage) (Needs, error) {
	d, err := t.find(kind)
	if err != nil {
		return Needs{}, err
	}
	if d.open == nil {
		return Needs{}, certctl.InvalidField("/kind", "targets of kind %s touch nothing of this node", d.Kind)
	}
	driver, err := d.open(settings)
	if err != nil {
		return Needs{}, err
	}
	r := &recorder{}
	err = driver.allowed(r)
	return r.needs, err
}
