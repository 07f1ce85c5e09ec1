package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// RabbitMQ is a private RabbitMQ that speaks AMQP in TLS, with an Erlang port mapper
// of its own. Started by root it runs as the user rabbitmq. Its fields are read by
// Start.
type RabbitMQ struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for everything that it writes.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
	mapper  int // the port of the port mapper
}

const rabbitmqConfig = `listeners.tcp = none
listeners.ssl.1 = %s
ssl_options.verify = verify_none
log.console = true
`

// Control is the path of a program like rabbitmqctl, for this node.
func (r *RabbitMQ) Control() string { return filepath.Join(r.Dir, "rabbitmqctl") }

// Node is the name of the node.
func (r *RabbitMQ) Node() string {
	_, port, _ := strings.Cut(r.Listen, ":")
	return "certctl" + port + "@localhost"
}

// Kill ends RabbitMQ with SIGKILL, and its port mapper, which is in no group of its.
func (r *RabbitMQ) Kill() {
	r.process.Kill()
	if epmd, err := exec.LookPath("epmd"); err == nil {
		_ = exec.Command(epmd, "-port", strconv.Itoa(r.mapper), "-kill").Run() // it may have ended
	}
}

// Start starts RabbitMQ and returns when it serves.
func (r *RabbitMQ) Start(ctx context.Context) error {
	program, err := FindRabbitMQ()
	if err != nil {
		return err
	}
	ports := [2]int{}
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return err
		}
	}
	r.mapper = ports[0]
	runAs, err := ownUser("rabbitmq", r.Dir)
	if err != nil {
		return fmt.Errorf("prepare RabbitMQ: %w", err)
	}
	environment := []string{
		"HOME=" + r.Dir, "ERL_EPMD_PORT=" + strconv.Itoa(r.mapper), "RABBITMQ_DIST_PORT=" + strconv.Itoa(ports[1]), "RABBITMQ_NODENAME=" + r.Node(),
		"ERL_EPMD_RELAXED_COMMAND_CHECK=1", // it may be ended before it has noticed that the node has
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_CONFIG_FILE=" + filepath.Join(r.Dir, "rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(r.Dir, "plugins"),
		"RABBITMQ_MNESIA_BASE=" + r.Dir, "RABBITMQ_LOG_BASE=" + r.Dir, "RABBITMQ_LOGS=-",
	}
	if err := r.prepare(filepath.Join(filepath.Dir(program), "rabbitmqctl"), environment, runAs); err != nil {
		return fmt.Errorf("prepare RabbitMQ: %w", err)
	}
	r.process, err = startReady(ctx, Command{
		Args: []string{program}, Env: environment, Credential: runAs, Dir: r.Dir, LogFile: filepath.Join(r.Dir, "output.log"), Name: "RabbitMQ",
	}, ShakesHands(r.Listen))
	return err
}

// prepare writes the configuration, the secret that the node and its control share,
// and that control.
func (r *RabbitMQ) prepare(control string, environment []string, runAs *syscall.Credential) error {
	var as string
	uid, gid := os.Geteuid(), os.Getegid()
	if runAs != nil {
		uid, gid = int(runAs.Uid), int(runAs.Gid)
		as = fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups ", uid, gid)
	}
	script := fmt.Sprintf("#!/bin/sh\ncd '%s'\nexport '%s'\nexec %s'%s' \"$@\"\n", r.Dir, strings.Join(environment, "' '"), as, control)
	for _, f := range []struct {
		name, content string
		mode          os.FileMode
	}{
		{"rabbitmq.conf", fmt.Sprintf(rabbitmqConfig, r.Listen) + r.Config, 0o600},
		{"plugins", "[].\n", 0o600},
		{".erlang.cookie", "ofthisnodealone", 0o400},
		{"rabbitmqctl", script, 0o755},
	} {
		path := filepath.Join(r.Dir, f.name)
		if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
			return err
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// FindRabbitMQ returns RabbitMQ's path: the program itself, and not what Debian puts
// before it for its own node.
func FindRabbitMQ() (string, error) {
	const program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	return findDaemon("rabbitmq-server", "rabbitmq-server")
}
