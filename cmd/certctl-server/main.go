// Command certctl-server is the platform: API, workers, signer, scheduler and,
// unless a NATS server is named, the bus. One process does all of it by
// default; --roles takes it apart.
//
// Exit codes:
//
//	0  done, or stopped by SIGTERM or SIGINT
//	1  error
//	2  the command line or the settings cannot be right
//	3  health: nothing answers, or it is not well
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // change windows name zones, and images have no database of them

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote/kube"
	"github.com/certctl/certctl/cmd/internal/config"
	"github.com/certctl/certctl/cmd/internal/edition"
	"github.com/certctl/certctl/handlers/issuer/acme/legodns"
	"github.com/certctl/certctl/store"
	"github.com/rs/zerolog"
	_ "golang.org/x/crypto/x509roots/fallback" // images have no roots of their own
)

// Exit codes; see the package comment.
const (
	exitOK = iota
	exitError
	exitUsage
	exitUnhealthy
)

// cli is the tree of commands; all share the settings.
type cli struct {
	Config

	Serve    struct{}    `cmd:"" default:"1" help:"Run the roles until SIGTERM."`
	Migrate  struct{}    `cmd:"" help:"Bring the database's schema to this release, and stop."`
	Health   struct{}    `cmd:"" help:"Ask the process at --listen, or without the role api at --debug-listen, whether it lives; for container health checks."`
	Check    struct{}    `cmd:"" help:"Look for rows that break a promise; prints each and fails if there is one."`
	Settings settings    `cmd:"" name:"config" help:"Settings."`
	CA       caCommands  `cmd:"" name:"ca" help:"The local CA."`
	Bus      busCommands `cmd:"" name:"bus" help:"The message bus."`
	Version  struct{}    `cmd:"" help:"Print version and commit."`

	Backup  backupCommand  `cmd:"" help:"Write all that the database holds into one file. Servers may run meanwhile."`
	Copy    copyCommand    `cmd:"" help:"Put this program into a folder, for a container of another image."`
	Restore restoreCommand `cmd:"" help:"Put a backup into the database, with every server stopped."`

	Recovery recoveryCommands `cmd:"" help:"What follows a restore."`

	Setup     setupCommands    `cmd:"" help:"Make the secrets that the parts of an installation in containers share, where they are missing."`
	JoinToken joinTokenCommand `cmd:"" help:"Write a join token for agents into a file."`
}

type settings struct {
	Check struct{} `cmd:"" help:"Check the settings without starting anything."`
}

// programVars stand in the defaults of settings.
var programVars = map[string]string{"account_dir": kube.AccountDir}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 1 && args[0] == legodns.Command { // a child of a worker, without settings
		if err := legodns.Main(os.Stdin, os.Stdout); err != nil {
			return exitError
		}
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	parsed, err := config.Parse(&c, args, config.Options{
		Name: "certctl-server", Description: "The certctl platform.", Environ: os.Environ(),
		Known: knownVariables(), Vars: programVars,
	})
	if errors.Is(err, config.ErrHelp) {
		return exitOK
	}
	if err == nil && !withoutSettings(parsed.Context.Command()) {
		err = c.complete()
	}
	if err != nil {
		return fail(err)
	}
	log := c.logger()
	for _, warning := range parsed.Warnings {
		log.Warn().Msg(warning)
	}
	return fail(c.command(ctx, parsed.Context.Command(), log))
}

// withoutSettings are the commands that run before there is an installation.
func withoutSettings(command string) bool { return command == "version" || command == "copy <dir>" }

// command runs one command.
func (c *cli) command(ctx context.Context, name string, log zerolog.Logger) error {
	switch name {
	case "serve":
		return serve(ctx, &c.Config, log)
	case "migrate":
		return migrate(ctx, &c.Config)
	case "health":
		return health(ctx, &c.Config)
	case "check":
		return check(ctx, &c.Config)
	case "config check":
		fmt.Println("the settings are possible")
		return nil
	case "ca request":
		return caRequest(ctx, &c.Config, c.CA.Request, log)
	case "ca install <file>":
		return caInstall(ctx, &c.Config, c.CA.Install, log)
	case "ca rollover":
		return caRollover(ctx, &c.Config, c.CA.Rollover, log)
	case "bus init <dir>":
		return busInit(ctx, &c.Config, c.Bus.Init, log)
	case "backup <path>":
		return takeBackup(ctx, &c.Config, c.Backup)
	case "copy <dir>":
		return copySelf(c.Copy)
	case "restore <file>":
		return restore(ctx, &c.Config, c.Restore)
	case "recovery status":
		return withStore(ctx, &c.Config, func(st *store.Store) error { return recoveryStatus(ctx, st) })
	case "recovery finish":
		return withStore(ctx, &c.Config, func(st *store.Store) error { return recoveryFinish(ctx, st) })
	case "recovery skip-stream":
		return withStore(ctx, &c.Config, func(st *store.Store) error { return recoverySkipStream(ctx, st) })
	case "setup files <dir>":
		return setup(c.Setup.Files)
	case "setup kubernetes":
		return setupKubernetes(ctx, &c.Config, c.Setup.Kubernetes, log)
	case "join-token <file>":
		return joinToken(ctx, &c.Config, c.JoinToken)
	case "version":
		fmt.Println(edition.Line("certctl-server"))
		return nil
	}
	return certctl.Errorf(certctl.Internal, "the command %q is declared and not there", name)
}

// errUnhealthy is what health and check return for what they found.
var errUnhealthy = errors.New("not well")

// fail prints an error with its remedy and returns the exit code.
func fail(err error) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "certctl-server:", err)
	var ours *certctl.Error
	if errors.As(err, &ours) && ours.Remedy != "" {
		fmt.Fprintln(os.Stderr, "  ", ours.Remedy)
	}
	switch {
	case errors.Is(err, errUnhealthy):
		return exitUnhealthy
	case certctl.ErrorCode(err) == certctl.Invalid:
		return exitUsage
	}
	return exitError
}

// logger writes JSON lines, or text for people.
func (c *Config) logger() zerolog.Logger {
	level, _ := zerolog.ParseLevel(c.LogLevel) // one of the enum
	if c.LogFormat == "text" {
		return zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr}).Level(level).With().Timestamp().Logger()
	}
	return zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger()
}
