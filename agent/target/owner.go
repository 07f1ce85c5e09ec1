package target

import (
	"io/fs"
	"os/user"
	"strconv"

	"github.com/certctl/certctl"
)

// ownership says whose the files are and who may read the key.
type ownership struct {
	// Owner and Group of the files, names or ids; default: the agent's.
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`
	// KeyMode is the mode of the private key, octal text; default 0600, at most 0640.
	KeyMode string `json:"key_mode,omitempty"`
}

// mode reads KeyMode.
func (o ownership) mode(bad *certctl.FieldErrors) fs.FileMode {
	if o.KeyMode == "" {
		return 0o600
	}
	mode, err := strconv.ParseUint(o.KeyMode, 8, 32)
	if err != nil || mode&^0o640 != 0 || mode&0o400 == 0 {
		bad.Add("/settings/key_mode", "must be 0400, 0440, 0600 or 0640")
	}
	return fs.FileMode(mode)
}

// on adds the ids to a layout. Who is not known on this node is refused by
// allowed, before anything is written.
func (o ownership) on(out layout) layout {
	if id, err := o.uid(); err == nil {
		out.uid = id
	}
	if id, err := o.gid(); err == nil {
		out.gid = id
	}
	return out
}

// allowed refuses users and groups that this node does not know.
func (o ownership) allowed() error {
	if _, err := o.uid(); err != nil {
		return err
	}
	_, err := o.gid()
	return err
}

// uid is the owner's id, -1 for the agent's own; ids need no look-up.
func (o ownership) uid() (int, error) {
	if o.Owner == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(o.Owner); err == nil {
		return id, nil
	}
	found, err := user.Lookup(o.Owner)
	if err != nil {
		return -1, certctl.Wrap(certctl.Invalid, err, "there is no user %q on this node", o.Owner)
	}
	return strconv.Atoi(found.Uid)
}

func (o ownership) gid() (int, error) {
	if o.Group == "" {
		return -1, nil
	}
	if id, err := strconv.Atoi(o.Group); err == nil {
		return id, nil
	}
	found, err := user.LookupGroup(o.Group)
	if err != nil {
		return -1, certctl.Wrap(certctl.Invalid, err, "there is no group %q on this node", o.Group)
	}
	return strconv.Atoi(found.Gid)
}
