package sqlite

import (
	"context"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/openpith/evidence/resolver"
)

// checks are questions that a sound database answers with no rows. Each row of
// an answer is a place where it is damaged.
var checks = []struct{ code, query string }{
	{"bundle_missing", `SELECT 'record ' || suffix FROM record LEFT JOIN bundle USING (id) WHERE bundle.id IS NULL`},
	{"bundle_orphan", `SELECT 'bundle ' || bundle.id FROM bundle LEFT JOIN record USING (id) WHERE record.id IS NULL`},
	{"event_orphan", `SELECT 'event ' || seq FROM event LEFT JOIN record ON record.id = event.record WHERE record.id IS NULL`},
	{"alias_orphan", `SELECT 'alias ' || kind || ' ' || value FROM alias LEFT JOIN record ON record.id = alias.record WHERE record.id IS NULL`},
	{"citation_orphan", `SELECT 'citation of ' || citation.id FROM citation LEFT JOIN event USING (seq) WHERE event.seq IS NULL OR event.record <> citation.record`},
	{"event_numbers", `SELECT 'events' FROM (SELECT count(*) AS n, coalesce(max(seq), -1) AS last, coalesce(min(seq), 0) AS first FROM event) WHERE first <> 0 OR last <> n - 1`},
	{"search_missing", `SELECT 'record ' || suffix FROM record WHERE id NOT IN (SELECT rowid FROM search)`},
	{"search_orphan", `SELECT 'search ' || rowid FROM search WHERE rowid NOT IN (SELECT id FROM record)`},
	{"counter", `SELECT 'counters' FROM counter WHERE records <> (SELECT count(*) FROM record) OR events <> (SELECT count(*) FROM event) OR keys <> (SELECT count(*) FROM key)
		OR refused <> (SELECT count(*) FROM held WHERE status = 'refused') OR queued <> (SELECT count(*) FROM held WHERE status = 'queued')
		OR revision < (SELECT coalesce(max(revision), 0) FROM record)`},
	{"counter_row", `SELECT 'counters' WHERE (SELECT count(*) FROM counter) <> 1`},
}

// Check implements resolver.Store.
func (s *Store) Check(ctx context.Context, report func(resolver.Problem)) error {
	return s.snapshot(ctx, func(conn *sqlite.Conn) error {
		err := run(conn, `PRAGMA integrity_check`, func(stmt *sqlite.Stmt) error {
			if text := stmt.ColumnText(0); text != "ok" {
				report(resolver.Problem{Where: "database", Code: "integrity", Detail: text})
			}
			return nil
		})
		if err != nil {
			report(resolver.Problem{Where: "database", Code: "unreadable", Detail: err.Error()})
		}
		for _, c := range checks {
			const most = 100 // of one kind: the rest says nothing new
			err := run(conn, c.query+` LIMIT `+strconv.Itoa(most), func(stmt *sqlite.Stmt) error {
				report(resolver.Problem{Where: stmt.ColumnText(0), Code: c.code, Detail: "the tables of the database do not agree"})
				return nil
			})
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				report(resolver.Problem{Where: "database", Code: "unreadable", Detail: fmt.Sprintf("%s: %v", c.code, err)})
			}
		}
		return nil
	})
}
