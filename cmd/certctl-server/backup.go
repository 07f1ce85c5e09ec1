package main

import (
	"context"
	"fmt"
	"os"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/edition"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/backup"
)

type backupCommand struct {
	Path        string `arg:"" help:"File to write, or the folder for it."`
	Keep        int    `help:"Afterwards remove all but so many of this installation's backups from the folder; 0: none." env:"-" default:"0"`
	PostgresBin string `help:"Folder of pg_dump. Default: the newest that is installed." env:"-" name:"postgres-bin" type:"path"`
}

type restoreCommand struct {
	File        string `arg:"" help:"The backup."`
	Overwrite   bool   `help:"Restore into a database that is not empty: what is in it is lost." env:"-"`
	PostgresBin string `help:"Folder of pg_restore. Default: the newest that is installed." env:"-" name:"postgres-bin" type:"path"`
}

// takeBackup writes a backup. It needs the database and nothing else, and
// servers may run meanwhile.
func takeBackup(ctx context.Context, c *Config, command backupCommand) error {
	info, err := os.Stat(command.Path)
	if command.Keep < 0 || command.Keep > 0 && (err != nil || !info.IsDir()) {
		return certctl.InvalidField("keep", "--keep is a number of backups in a folder, and %s is none", command.Path)
	}
	path, m, err := backup.Take(ctx, backup.Options{
		URL: c.DatabaseURL, Release: edition.Version(), Programs: backup.Programs{Folder: command.PostgresBin},
	}, command.Path)
	if err != nil {
		return err
	}
	fmt.Printf("%s: installation %s as of %s, %d bytes\nkeep the key-encryption keys apart from it: they are not in it, and without them it is worth nothing\n",
		path, m.Installation, m.TakenAt.Format("2006-01-02 15:04:05 MST"), m.DumpSize)
	if command.Keep == 0 {
		return nil
	}
	former, err := backup.Prune(path, m, command.Keep)
	for _, old := range former {
		fmt.Println("removed", old)
	}
	return err
}

// restore puts a backup into the database of the settings.
func restore(ctx context.Context, c *Config, command restoreCommand) error {
	if !c.has(roleSigner) {
		return certctl.InvalidField("roles", "a restore proves that the key-encryption keys fit: it needs those of the role signer")
	}
	existing := *c
	existing.CreateKEKs = false // new keys open nothing
	keys, err := loadKeys(&existing)
	if err != nil {
		return err
	}
	m, err := backup.Restore(ctx, backup.RestoreOptions{
		Options: backup.Options{URL: c.DatabaseURL, Release: edition.Version(), Programs: backup.Programs{Folder: command.PostgresBin}},
		Path:    command.File, Overwrite: command.Overwrite, CheckKeys: keys.opens,
		Finish: func(ctx context.Context, st *store.Store, m backup.Manifest) error {
			return st.BeginRecovery(ctx, m.TakenAt)
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("restored: installation %s as of %s\nstart the servers: what happened since comes back from the event stream and the agents (certctl-server recovery status)\n", m.Installation, m.TakenAt.Format("2006-01-02 15:04:05 MST"))
	return nil
}

// opens proves that the keys are those that a backup was sealed with. The key of
// the OCSP responders is left out: responders are made anew.
func (r keyring) opens(checks []backup.KeyCheck) error {
	for _, check := range checks {
		var s sealer
		switch check.Purpose {
		case certctl.KeyPurposeCheck + "-" + kek.CA:
			s = r.ca
		case certctl.KeyPurposeCheck + "-" + kek.Secrets:
			s = r.secrets
		default:
			continue
		}
		if _, err := s.Open("platform_key", check.ID, "sealed", check.Sealed); err != nil {
			return certctl.Wrap(certctl.Conflict, err, "the key-encryption keys at hand are not those that this backup was sealed with (%s)", check.Purpose).
				WithRemedy("put the files kek-ca.key and kek-secrets.key of that installation where --kek-ca and --kek-secrets point; nothing was changed")
		}
	}
	return nil
}
