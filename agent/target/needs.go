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

// Denied returns everything that a target needs and the node's policy does not
// allow, where Open stops at the first. It touches nothing. Kinds of other packages
// are asked by Open alone.
func (t Table) Denied(spec certctl.TargetCommand, policy Policy) []error {
	d, err := t.find(spec.Kind)
	if err != nil || d.Parse != nil {
		return nil
	}
	driver, err := d.open(spec.Settings)
	if err != nil {
		return nil // Open says why
	}
	c := &collector{policy: policy}
	if err := driver.allowed(c); err != nil {
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
