package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/postgres"
	"github.com/openpith/evidence/resolver/sqlite"
)

// openStore opens the store that --db names.
func openStore(ctx context.Context, dsn string) (resolver.Store, error) {
	return openStoreBy(ctx, dsn, postgres.Open)
}

func openStoreBy(ctx context.Context, dsn string, openPostgres func(context.Context, string) (*postgres.Store, error)) (resolver.Store, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		s, err := sqlite.Open(ctx, path)
		if err != nil {
			return nil, cli.Hint(err, "%s", openHint(err, "name a file in a directory that you may write to: --db sqlite:FILE"))
		}
		return s, nil
	}
	if dsn == "memory:" {
		return memstore.New(), nil
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		s, err := openPostgres(ctx, dsn)
		if err != nil {
			return nil, cli.Hint(err, "%s", openHint(err, "name a database that is there, of a role that may create a schema in it; its password belongs in PGPASSWORD or ~/.pgpass"))
		}
		return s, nil
	}
	return nil, cli.Hint(fmt.Errorf("--db %s: no such kind of database", shown(dsn)), "sqlite:FILE, postgres://USER@HOST/DATABASE or memory:")
}

// openStoreThere opens a store that is there, and makes none.
func openStoreThere(ctx context.Context, dsn string) (resolver.Store, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			err = fmt.Errorf("%s: %w", path, resolver.ErrNoStore)
			return nil, cli.Hint(err, "%s", openHint(err, ""))
		}
	}
	return openStoreBy(ctx, dsn, postgres.OpenThere)
}

// openHint says what helps when a database cannot be opened.
func openHint(err error, otherwise string) string {
	switch {
	case errors.Is(err, resolver.ErrFull):
		return "make room on the disk; nothing is lost"
	case errors.Is(err, resolver.ErrNoStore):
		return "name a mirror's directory or database as it was named for pith serve or pith ingest, which make one"
	case errors.Is(err, resolver.ErrForeign):
		return "name another: this one is left as it is"
	case errors.Is(err, resolver.ErrNewer):
		return "use the program that made it, or a newer one"
	}
	return otherwise
}

// shown is the name of a database without a password that stands in it.
func shown(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "sqlite" {
		if q := u.Query(); q.Has("password") {
			q.Set("password", "xxxxx")
			u.RawQuery = q.Encode()
		}
		return u.Redacted()
	}
	return dsn
}
