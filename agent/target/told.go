package target

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
)

// teller speaks with a daemon that is told its files while it runs, and answers
// whether it has taken them: what it cannot load leaves those before in force.
type teller interface {
	// names returns the files that the daemon has been told, "" for none.
	names(ctx context.Context) (certificate, key string, err error)
	// tell has the daemon read these files, also when their names are the same.
	tell(ctx context.Context, certificate, key string) error
}

// tellAgain has a daemon read its files again. One that names none below the
// directory yet is told those of the place that is there; without one, nothing.
func tellAgain(ctx context.Context, t teller, directory string) error {
	certificate, key, err := t.names(ctx)
	if err != nil {
		return err
	}
	if !below(certificate, directory) {
		places, err := installedPlaces(directory)
		switch {
		case err != nil:
			return err
		case len(places) == 0:
			return nil
		case len(places) > 1:
			return certctl.Errorf(certctl.Conflict, "the daemon serves one certificate, and %d are installed", len(places)).
				WithRemedy("name the files of one of them in its configuration, or give each daemon a directory of its own")
		}
		certificate, key = filepath.Join(places[0], fileFullchain), filepath.Join(places[0], fileKey)
	}
	return t.tell(ctx, certificate, key)
}

// installedPlaces are the links to the current generations in a directory.
func installedPlaces(directory string) ([]string, error) {
	links, err := filepath.Glob(filepath.Join(directory, "*", linkCurrent))
	if err != nil {
		return nil, err
	}
	var installed []string
	for _, link := range links {
		if _, err := os.Stat(filepath.Join(link, fileCert)); err == nil {
			installed = append(installed, link)
		}
	}
	return installed, nil
}

// dialControl opens a connection to a daemon's control socket, for as long as a
// command may take.
func dialControl(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the daemon takes no commands at %s", address)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			_ = conn.Close() // it was not used
			return nil, err
		}
	}
	return conn, nil
}
