package sqlite

import (
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/openpith/evidence/resolver"
)

var _ resolver.Quick = (*Store)(nil)

// brief is a context for reads that are over in microseconds: to watch for its end
// would cost more, a goroutine for each read.
func brief(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// Tag implements resolver.Quick.
func (s *Store) Tag(ctx context.Context, suffix string) (d resolver.Digest, err error) {
	err = s.one(brief(ctx), `SELECT digest FROM record WHERE suffix = ?`, func(stmt *sqlite.Stmt) error {
		d = digest(stmt, 0)
		return nil
	}, suffix)
	return d, err
}

// Packed implements resolver.Quick. The bundle is a sub-query because SQLite
// would plan a join anew for every value.
func (s *Store) Packed(ctx context.Context, suffix string) (d resolver.Digest, packed []byte, err error) {
	err = s.one(brief(ctx), `SELECT digest, (SELECT gzip FROM bundle WHERE bundle.id = record.id) FROM record WHERE suffix = ?`, func(stmt *sqlite.Stmt) error {
		d, packed = digest(stmt, 0), blob(stmt, 1)
		return nil
	}, suffix)
	return d, packed, err
}
