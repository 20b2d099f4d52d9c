package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
)

// TestInterrupted: what the end of a context interrupts is no trouble of the database.
func TestInterrupted(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "pith.db"))
	for name, do := range map[string]func(context.Context, func(*sqlite.Conn) error) error{"read": s.read, "write": s.write} {
		ctx, cancel := context.WithCancel(t.Context())
		err := do(ctx, func(conn *sqlite.Conn) error {
			cancel()
			return run(conn, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`, nil)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
