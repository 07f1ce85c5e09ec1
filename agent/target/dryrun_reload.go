package target

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/certctl/certctl"
)

// reloadPlan says how a daemon would be told to read its files again: by a command,
// by a signal, or at a control socket.
type reloadPlan struct {
	argv             []string
	pidFile, program string
	control          string      // a socket's path, or host:port
	cli              *haproxyCLI // HAProxy's socket; the rest is for what only a reload brings
}

// planner is a driver that says how it reloads.
type planner interface{ reloadPlan() reloadPlan }

func (d *dryRun) plan() reloadPlan {
	if p, ok := d.target.driver.(planner); ok {
		return p.reloadPlan()
	}
	return reloadPlan{}
}

func (d *daemon) reloadPlan() reloadPlan {
	if len(d.Reload) > 0 {
		return reloadPlan{argv: d.Reload}
	}
	program := d.program
	if program == "" {
		program = filepath.Base(d.Binary)
	}
	return reloadPlan{pidFile: d.PIDFile, program: program}
}

func (h *haproxy) reloadPlan() reloadPlan {
	plan := h.daemon.reloadPlan()
	if h.cli.socket != "" {
		plan.cli = &h.cli
	}
	return plan
}

func (f *files) reloadPlan() reloadPlan { return reloadPlan{argv: f.settings.ReloadCommand} }

func (r *redis) reloadPlan() reloadPlan { return controlled(r.settings.Reload, r.settings.Control) }
func (l *slapd) reloadPlan() reloadPlan { return controlled(l.settings.Reload, l.settings.Control) }

func controlled(reload []string, control string) reloadPlan {
	if len(reload) > 0 {
		return reloadPlan{argv: reload}
	}
	return reloadPlan{control: control}
}

// reload looks whether the daemon could be told, and does not tell it.
func (d *dryRun) reload(ctx context.Context) {
	plan := d.plan()
	if plan.cli != nil {
		d.haproxySocket(ctx, *plan.cli)
	}
	switch {
	case len(plan.argv) > 0:
		d.ok("reload", strings.Join(plan.argv, " "), "would be run")
	case plan.control != "":
		if err := answers(plan.control); err != nil {
			d.fails("reload", plan.control, certctl.Wrap(certctl.Unavailable, err, "the daemon takes no commands there").
				WithRemedy("does it run, and does it listen there?"))
			return
		}
		d.ok("reload", plan.control, "the daemon could be told there")
	case plan.pidFile != "":
		if err := signalProcess(plan.pidFile, plan.program, syscall.Signal(0)); err != nil {
			d.fails("reload", plan.pidFile, certctl.Wrap(certctl.Unavailable, err, "%s could not be told to reload", plan.program).
				WithRemedy("start it, and name the right pid_file, or a command under reload"))
			return
		}
		d.ok("reload", plan.pidFile, "%s runs, and would be told to read its files again", plan.program)
	default:
		d.add("reload", "", certctl.StepSkipped, "there is nothing to reload here, or it cannot be told without doing it", "")
	}
}

// haproxySocket looks whether HAProxy could be told of certificates. It asks what an
// installation asks first, and says nothing that changes HAProxy.
func (d *dryRun) haproxySocket(ctx context.Context, cli haproxyCLI) {
	answer, err := cli.do(ctx, "show info")
	if err != nil {
		err = certctl.Wrap(certctl.Unavailable, err, "HAProxy could not be told there").
			WithRemedy("does it run, and does its configuration have a line \"stats socket\" with this path?")
	} else if !strings.Contains(answer, "Name: HAProxy") {
		err = certctl.Errorf(certctl.Conflict, "who answers there is not HAProxy").
			WithRemedy("name the path of the line \"stats socket\" of HAProxy's configuration")
	}
	if err == nil {
		_, _, err = cli.certificates(ctx)
	}
	if err != nil {
		d.fails("reload", cli.socket, err)
		return
	}
	d.ok("reload", cli.socket, "HAProxy could be told there of certificates that it has loaded")
}

// answers reports whether somebody takes connections at a control socket.
func answers(control string) error {
	network := "tcp"
	if filepath.IsAbs(control) {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, control)
	if err != nil {
		return err
	}
	return conn.Close()
}

// ownerText is an id as a setting.
func ownerText(id int) string {
	if id < 0 {
		return ""
	}
	return strconv.Itoa(id)
}
