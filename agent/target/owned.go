package target

import "github.com/certctl/certctl"

// ownedSettings are the settings of those kinds whose daemon reads the files as a
// user of its own, and whose configuration the agent has no need to see.
type ownedSettings struct {
	// Directory holds the places; the daemon's configuration names files below it.
	Directory string `json:"directory"`
	ownership
	// PIDFile names the process that is told to reload.
	PIDFile string `json:"pid_file,omitempty"`
	// Reload is an argument vector to run instead.
	Reload []string `json:"reload,omitempty"`
	// Listen are the addresses to probe, see probe.Address.
	Listen []string `json:"listen"`
}

// owned is the driver of such a kind.
type owned struct {
	daemon
	owner ownership
	mode  layout
}

// newOwned makes it of the settings; d says what is the kind's own.
func newOwned(s ownedSettings, d daemon, bad *certctl.FieldErrors) *owned {
	d.daemonSettings = daemonSettings{Directory: s.Directory, PIDFile: s.PIDFile, Reload: s.Reload, Listen: s.Listen}
	absolute(bad, "directory", s.Directory)
	return &owned{daemon: d, owner: s.ownership, mode: layout{directory: s.Directory, uid: -1, gid: -1, keyMode: s.mode(bad)}}
}

func (o *owned) layout() layout { return o.owner.on(o.mode) }

func (o *owned) allowed(p Policy) error {
	if err := o.owner.allowed(); err != nil {
		return err
	}
	return o.allowedFiles(p)
}
