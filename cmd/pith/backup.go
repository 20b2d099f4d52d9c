package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
)

func backupCommand() *cobra.Command {
	var h home
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the database of a mirror, also while it runs",
		Long: `backup writes a copy of the database as it is at one moment. pith serve may go on
meanwhile. To restore, stop pith serve and put the file in the place of the
database; pith fsck checks it. The log is made again from the database, so the
copy is enough, together with the mirror's key.

A PostgreSQL database is copied by its own pg_dump, which must be installed, in
the custom format: pg_restore --dbname DATABASE FILE reads it back.`,
		Example: "  pith backup /mnt/backup/pith.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); !errors.Is(err, fs.ErrNotExist) {
				return cli.Hint(fmt.Errorf("%s: %w", args[0], fs.ErrExist), "name a file that is not there")
			}
			store, err := h.openThere(cmd)
			if err != nil {
				return err
			}
			defer store.Close()
			b, ok := store.(interface {
				Backup(ctx context.Context, path string) error
			})
			if !ok {
				return cli.Hint(fmt.Errorf("%s cannot be copied into a file", shown(h.db)), "name a database with --db")
			}
			return cli.Hint(b.Backup(cmd.Context(), args[0]), "name a file in a directory that you may write to")
		},
	}
	h.storeFlags(cmd)
	return cmd
}
