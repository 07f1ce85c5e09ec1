// Command up is the launcher behind `./task up` and the `setup` of the tests.
//
//	up setup       install what the tests need
//	up setup-all   install what the tests need that take long, too
//	up up          run certctl on this machine until Ctrl-C
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/certctl/certctl/deploy/local"
)

const usage = "usage: up setup | up setup-all | up up"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "certctl:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s", usage)
	}
	switch args[0] {
	case "setup":
		return local.Install(ctx, local.TestRequirements(), os.Stdout)
	case "setup-all":
		return local.Install(ctx, local.AllRequirements(), os.Stdout)
	case "up":
		return up(ctx, readConfig(os.Getenv))
	default:
		return fmt.Errorf("unknown command %q; %s", args[0], usage)
	}
}
