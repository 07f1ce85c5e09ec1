package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// stopTimeout is how long all services together may take to stop.
const stopTimeout = time.Minute

// config is what `./task up` takes from its environment.
type config struct {
	dataDir     string // CERTCTL_DATA_DIR, by default .certctl
	listen      string // CERTCTL_LISTEN, by default 127.0.0.1:8443
	databaseURL string // CERTCTL_DATABASE_URL: a PostgreSQL to use instead of a private one
	natsURL     string // CERTCTL_NATS_URL: a NATS to use instead of the embedded one
}

func readConfig(getenv func(string) string) config {
	valueOr := func(name, value string) string {
		if set := getenv(name); set != "" {
			return set
		}
		return value
	}
	return config{
		dataDir: valueOr("CERTCTL_DATA_DIR", ".certctl"), listen: valueOr("CERTCTL_LISTEN", "127.0.0.1:8443"),
		databaseURL: getenv("CERTCTL_DATABASE_URL"), natsURL: getenv("CERTCTL_NATS_URL"),
	}
}

// up starts everything, carries a certificate through it, and stops everything
// in reverse order when the context is done or a part ends by itself.
func up(ctx context.Context, config config) (err error) {
	if err := local.Install(ctx, local.UpRequirements(), os.Stdout); err != nil {
		return err
	}
	config.dataDir, err = filepath.Abs(config.dataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(config.dataDir, 0o711); err != nil { // PostgreSQL's user passes through, nobody looks
		return err
	}
	binaries := filepath.Join(config.dataDir, "bin")
	if err := local.Build(ctx, ".", binaries, "./cmd/certctl-server", "./cmd/certctl-agent", "./cmd/certctl"); err != nil {
		return err
	}
	i := &local.Installation{
		Binaries: binaries, Dir: config.dataDir, Listen: config.listen,
		DatabaseURL: config.databaseURL, NATSURL: config.natsURL, Durable: true,
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, i.Stop(stopping))
	}()
	if err := i.Start(ctx); err != nil {
		return err
	}
	if err := i.EnsureTarget(ctx, demoTarget); err != nil {
		return err
	}
	took, err := demo{api: i.API, nginx: i.NginxAddress()}.serve(ctx)
	if err != nil {
		return err
	}
	welcome(i, binaries, took)
	return i.Wait(ctx)
}

// welcome says what runs where, and what to try next.
func welcome(i *local.Installation, binaries string, took time.Duration) {
	fmt.Printf(`
%s is served, %d ms after it was requested.

  API         %s
  admin key   %s
  CA          %s

Try next, in another terminal:

  curl --cacert %s --resolve %s:%s https://%s:%s/
  curl --cacert %s -H "Authorization: Bearer $(cat %s)" %s/api/v1/certificates
  CERTCTL_KEY_FILE=%s %s --server %s --ca-file %s events list --follow

Ctrl-C stops all of it.
`,
		demoName, took.Milliseconds(), i.Server.URL(), i.Server.AdminKeyFile, i.Server.CAFile,
		i.Server.CAFile, demoName, port(i.NginxAddress())+":"+host(i.NginxAddress()), demoName, port(i.NginxAddress()),
		i.Server.CAFile, i.Server.AdminKeyFile, i.Server.URL(),
		i.Server.AdminKeyFile, filepath.Join(binaries, "certctl"), i.Server.URL(), i.Server.CAFile)
}
