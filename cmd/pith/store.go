package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/sqlite"
)

// openStore opens the store that --db names.
func openStore(ctx context.Context, dsn string) (resolver.Store, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		s, err := sqlite.Open(ctx, path)
		if err != nil {
			return nil, cli.Hint(err, "name a file in a directory that you may write to: --db sqlite:FILE")
		}
		return s, nil
	}
	if dsn == "memory:" {
		return memstore.New(), nil
	}
	return nil, cli.Hint(fmt.Errorf("--db %s: no such kind of database", dsn), "sqlite:FILE or memory:")
}
