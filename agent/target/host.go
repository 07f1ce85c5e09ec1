package target

import (
	"context"
	"io/fs"

	"github.com/certctl/certctl"
)

// Host is a target whose files and daemon are on another host. What a target does
// on its own node is done there, but for two things: the staged generation is
// switched in to be checked, since nobody can lay it over the current one, and the
// locks are this node's. A connection may break at any moment: a switch that was
// not proven is taken back by the next installation at its place.
type Host struct {
	Name      string // targets of one host and directory take their turn on this node
	Directory string
	KeyMode   fs.FileMode
	UID, GID  int  // of the files; -1: as the disk makes them
	Bundle    bool // also key, leaf and chain in one file
	Disk      Disk
	// Run runs an argument vector that the node's policy has allowed.
	Run           func(ctx context.Context, argv []string) error
	Check, Reload []string // argument vectors; none: there is nothing to check, or to reload
	Listen        []string // addresses to probe from here, see probe.Address
}

// Open holds directory and commands against the node's policy. It asks the host
// nothing.
func (h Host) Open(name string, env Env) (*Target, error) {
	d := &hostDriver{h}
	if err := d.allowed(env.Policy); err != nil {
		return nil, err
	}
	return &Target{name: name, driver: d, env: env}, nil
}

// hostDriver is a Host as a driver.
type hostDriver struct{ host Host }

var (
	_ driver = (*hostDriver)(nil)
	_ runner = (*hostDriver)(nil)
)

// runner is a driver whose check is not run on this node.
type runner interface {
	run(ctx context.Context, argv []string) error
}

func (d *hostDriver) layout() layout {
	h := d.host
	return layout{directory: h.Directory, uid: h.UID, gid: h.GID, keyMode: h.KeyMode, other: h.Disk, host: h.Name}
}

func (d *hostDriver) files(m material) ([]file, error) {
	if !d.host.Bundle {
		return nil, nil
	}
	bundle, err := bundleFile(m)
	return []file{bundle}, err
}

func (d *hostDriver) check() []string     { return d.host.Check }
func (d *hostDriver) addresses() []string { return d.host.Listen }

func (d *hostDriver) reload(ctx context.Context) error {
	if len(d.host.Reload) == 0 {
		return nil
	}
	return d.run(ctx, d.host.Reload)
}

func (d *hostDriver) run(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err := d.host.Run(ctx, argv)
	if err != nil && ctx.Err() != nil {
		err = certctl.Wrap(certctl.Unavailable, err, "%s did not end within %s", argv[0], commandTimeout)
	}
	return err
}

func (d *hostDriver) allowed(p Policy) error {
	if err := p.AllowDirectory(d.host.Directory); err != nil {
		return err
	}
	for _, argv := range [][]string{d.host.Check, d.host.Reload} {
		if len(argv) == 0 {
			continue
		}
		if err := p.AllowCommand(argv); err != nil {
			return err
		}
	}
	return nil
}
