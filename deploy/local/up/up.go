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

// instance is one certctl on this machine: its services and where they are.
type instance struct {
	config      config
	databaseURL string
	nginx       *local.Nginx
	stack       local.Stack
}

// up starts everything, newest last, and stops it in reverse order when the
// context is done or a service ends by itself.
func up(ctx context.Context, config config) (err error) {
	if err := local.Install(ctx, local.UpRequirements(), os.Stdout); err != nil {
		return err
	}
	config.dataDir, err = filepath.Abs(config.dataDir)
	if err != nil {
		return err
	}
	// The database's user passes through on his way to his own folder.
	if err := os.MkdirAll(config.dataDir, 0o711); err != nil {
		return fmt.Errorf("make the state's folder: %w", err)
	}

	i := &instance{config: config}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, i.stack.Stop(stopping))
	}()
	for _, start := range []func(context.Context) error{i.startDatabase, i.startNginx} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("database  %s\nnginx     %s\n", i.databaseURL, i.nginx.ConfigFile())
	return i.stack.Wait(ctx)
}

// startDatabase starts a private PostgreSQL unless the user named one.
func (i *instance) startDatabase(ctx context.Context) error {
	if i.config.databaseURL != "" {
		i.databaseURL = i.config.databaseURL
		return nil
	}
	const database = "certctl"
	postgres := &local.Postgres{
		Databases: []string{database},
		Dir:       filepath.Join(i.config.dataDir, "postgres"),
		Durable:   true,
	}
	if err := postgres.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(postgres)
	i.databaseURL = postgres.DSN(database)
	return nil
}

// startNginx starts the demo target. Its server blocks are what the agent
// installs below the folder tls.
func (i *instance) startNginx(ctx context.Context) error {
	dir := filepath.Join(i.config.dataDir, "nginx")
	i.nginx = &local.Nginx{
		Config: local.NginxConfig(dir, filepath.Join(dir, "tls", "*", "current", "*.conf")),
		Dir:    dir,
	}
	if err := i.nginx.Start(ctx); err != nil {
		return err
	}
	i.stack.Push(i.nginx)
	return nil
}
