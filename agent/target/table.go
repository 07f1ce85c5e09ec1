package target

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
)

// Table is a set of kinds. The agent's is Kinds; programs that link more add them.
type Table []Descriptor

// Opened is a target that a table has opened; see Target.
type Opened interface {
	Apply(ctx context.Context, batch []Install) []certctl.Receipt
	Recover(ctx context.Context) error
	Forget(ctx context.Context, command certctl.ForgetCommand) error
	Inspect(place string, slot certctl.Slot, fingerprint, spki certctl.Digest) error
	Erase(place string, slot certctl.Slot, spki certctl.Digest) error
	Read(place string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error)
}

var _ Opened = (*Target)(nil)

// Opener is what the settings of a kind of another package are read to. Its errors
// are Denied for what the node's policy refuses.
type Opener interface {
	Open(name string, env Env) (Opened, error)
}

// Validate refuses an unknown kind, or settings that cannot work on any node,
// with a field for each mistake. It touches nothing, so that the server asks it,
// too.
func (t Table) Validate(kind string, settings json.RawMessage) error {
	d, err := t.find(kind)
	if err != nil {
		return err
	}
	if d.Parse != nil {
		_, err = d.Parse(settings)
		return err
	}
	_, err = d.open(settings)
	return err
}

// Experimental reports whether a kind was not proven against the real thing. An
// unknown one is not.
func (t Table) Experimental(kind string) bool {
	d, err := t.find(kind)
	return err == nil && d.Experimental
}

// Open returns a target by its description. Errors are Invalid for settings that
// cannot work, and Denied for what this node's policy refuses.
func (t Table) Open(spec certctl.TargetCommand, env Env) (Opened, error) {
	d, err := t.find(spec.Kind)
	if err != nil {
		return nil, err
	}
	env.Target = spec.Target
	if d.Parse == nil {
		return d.openHere(spec, env)
	}
	opener, err := d.Parse(spec.Settings)
	if err != nil {
		return nil, err
	}
	return opener.Open(spec.Name, env)
}

func (t Table) find(kind string) (Descriptor, error) {
	i := slices.IndexFunc(t, func(d Descriptor) bool { return d.Kind == kind })
	if i < 0 {
		return Descriptor{}, certctl.InvalidField("/kind", "there is no kind of target %q", certctl.Clip(kind, 40))
	}
	return t[i], nil
}

// openHere opens a kind of this package.
func (d Descriptor) openHere(spec certctl.TargetCommand, env Env) (*Target, error) {
	driver, err := d.open(spec.Settings)
	if err != nil {
		return nil, err
	}
	if err := driver.allowed(env.Policy); err != nil {
		return nil, err
	}
	return &Target{name: spec.Name, driver: driver, env: env}, nil
}
