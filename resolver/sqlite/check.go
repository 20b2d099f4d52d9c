package sqlite

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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
	{"citation_type", `SELECT 'citation of ' || citation.id FROM citation JOIN event USING (seq) WHERE event.type <> 'citation_signature'`},
	{"citation_twice", `SELECT 'event ' || seq FROM citation GROUP BY seq HAVING count(*) > 1`},
	{"key_unused", `SELECT 'key ' || fingerprint FROM key WHERE used = 0 AND fingerprint IN (SELECT fingerprint FROM event WHERE invalid = '')`},
	{"event_numbers", `SELECT 'events' FROM (SELECT count(*) AS n, coalesce(max(seq), -1) AS last, coalesce(min(seq), 0) AS first FROM event) WHERE first <> 0 OR last <> n - 1`},
	{"search_missing", `SELECT 'record ' || suffix FROM record WHERE id NOT IN (SELECT rowid FROM search)`},
	{"search_orphan", `SELECT 'search ' || rowid FROM search WHERE rowid NOT IN (SELECT id FROM record)`},
	{"held_status", `SELECT 'held submission ' || id FROM held WHERE status NOT IN ('refused', 'queued', 'accepted', 'rejected')`},
	{"counter", `SELECT 'counters' FROM counts WHERE records <> (SELECT count(*) FROM record) OR events <> (SELECT count(*) FROM event) OR keys <> (SELECT count(*) FROM key)
		OR refused <> (SELECT count(*) FROM held WHERE status = 'refused') OR queued <> (SELECT count(*) FROM held WHERE status = 'queued')
		OR revision <> (SELECT coalesce(max(revision), 0) FROM record)`},
	{"counter_row", `SELECT 'counters' WHERE (SELECT count(*) FROM counts) <> 1`},
}

// Check implements resolver.Store.
func (s *Store) Check(ctx context.Context, report func(resolver.Problem)) error {
	return s.snapshot(ctx, func(conn *sqlite.Conn) error {
		// A connection remembers which pages a full-text index has until it looks
		// something up. The check below looks nothing up: pages that another
		// connection has merged since would be damage to it.
		for _, index := range []string{"search", "record_digest", "event_id"} {
			_ = run(conn, `SELECT 1 FROM `+index+` WHERE `+index+` MATCH 'a' LIMIT 1`, nil) // what is damaged is told below
		}
		err := run(conn, `PRAGMA integrity_check`, func(stmt *sqlite.Stmt) error {
			if text := stmt.ColumnText(0); text != "ok" {
				report(resolver.Problem{Where: "database", Code: "integrity", Detail: text})
			}
			return nil
		})
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
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
		return errors.Join(
			checkAliases(ctx, conn, report), checkWords(ctx, conn, report),
			checkTerms(ctx, conn, report, "record_digest", `SELECT revision, digest FROM record`),
			checkTerms(ctx, conn, report, "event_id", `SELECT seq, event_id FROM event`),
		)
	})
}

// checkAliases counts the names that lead to each record. That none of its own is
// missing, resolver.Fsck asks; so one too many is another's.
func checkAliases(ctx context.Context, conn *sqlite.Conn, report func(resolver.Problem)) error {
	lead := map[int64]int{}
	err := run(conn, `SELECT record, count(*) FROM alias GROUP BY record`, func(stmt *sqlite.Stmt) error {
		lead[stmt.ColumnInt64(0)] = stmt.ColumnInt(1)
		return nil
	})
	if err == nil {
		err = run(conn, `SELECT id, suffix, aliases FROM record`, func(stmt *sqlite.Stmt) error {
			var own []resolver.Alias
			err := unlist(stmt.ColumnText(2), &own)
			if n := len(resolver.FoldAliases(own)); err != nil || n != lead[stmt.ColumnInt64(0)] {
				report(resolver.Problem{Where: "record " + stmt.ColumnText(1), Code: "alias_number", Detail: fmt.Sprintf("%d names lead to it, it has %d", lead[stmt.ColumnInt64(0)], n)})
			}
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		report(resolver.Problem{Where: "alias", Code: "unreadable", Detail: err.Error()})
		return nil
	}
	return err
}

// checkWords compares the words under which each record is found with its texts, by
// a digest of both that does not depend on their order: the index lists the records of
// a word, not the words of a record. It takes about 100 bytes of memory for each record.
func checkWords(ctx context.Context, conn *sqlite.Conn, report func(resolver.Problem)) error {
	type record struct {
		suffix string
		words  uint64 // sum of the digests of what the texts have, less those of the index
	}
	records := map[int64]*record{}
	seed := maphash.MakeSeed()
	err := run(conn, `SELECT id, suffix, title, authors, categories, abstract FROM record`, func(stmt *sqlite.Stmt) error {
		r := &record{suffix: stmt.ColumnText(1)}
		row := resolver.Record{Title: stmt.ColumnText(2), Authors: stmt.ColumnText(3), Abstract: stmt.ColumnText(5)}
		if err := unlist(stmt.ColumnText(4), &row.Categories); err != nil {
			report(resolver.Problem{Where: "record " + r.suffix, Code: "record_row", Detail: "its categories: " + err.Error()})
		}
		distinct := map[string]bool{}
		for _, text := range row.SearchTexts() {
			for _, w := range resolver.SearchWords(text) {
				distinct[w] = true
			}
		}
		for w := range distinct {
			r.words += maphash.String(seed, w)
		}
		records[stmt.ColumnInt64(0)] = r
		return nil
	})
	if err != nil {
		return err
	}
	if err := run(conn, `CREATE VIRTUAL TABLE IF NOT EXISTS temp.search_words USING fts5vocab(main, search, instance)`, nil); err != nil {
		return err
	}
	err = run(conn, `SELECT term, doc FROM temp.search_words`, func(stmt *sqlite.Stmt) error {
		if r := records[stmt.ColumnInt64(1)]; r != nil { // of others search_orphan tells
			r.words -= maphash.String(seed, stmt.ColumnText(0))
		}
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report(resolver.Problem{Where: "search", Code: "unreadable", Detail: err.Error()})
		return nil
	}
	for _, r := range records {
		if r.words != 0 {
			report(resolver.Problem{Where: "record " + r.suffix, Code: "search_words", Detail: "it is not found by its words, or by others"})
		}
	}
	return nil
}

// checkTerms compares an index of digests or ids with the rows, of which a query
// gives the number and what is indexed. It takes about 40 bytes of memory for each.
func checkTerms(ctx context.Context, conn *sqlite.Conn, report func(resolver.Problem), index, rows string) error {
	missing := map[int64]uint64{} // terms as numbers
	err := run(conn, rows, func(stmt *sqlite.Stmt) error {
		var id any
		var err error
		if stmt.ColumnType(1) == sqlite.TypeBlob {
			id = blob(stmt, 1)
		} else {
			id = stmt.ColumnText(1)
		}
		if missing[stmt.ColumnInt64(0)], err = strconv.ParseUint(term(id), 16, 64); err != nil {
			report(resolver.Problem{Where: index, Code: "index", Detail: fmt.Sprintf("row %d: %v", stmt.ColumnInt64(0), err)})
		}
		return nil
	})
	if err == nil {
		err = run(conn, `CREATE VIRTUAL TABLE IF NOT EXISTS temp.`+index+`_terms USING fts5vocab(main, `+index+`, instance)`, nil)
	}
	if err != nil {
		return err
	}
	// More than there should be does no harm, and old revisions are: who looks up
	// compares the rows.
	err = run(conn, `SELECT term, doc FROM temp.`+index+`_terms`, func(stmt *sqlite.Stmt) error {
		doc := stmt.ColumnInt64(1)
		want, ok := missing[doc]
		if got, err := strconv.ParseUint(stmt.ColumnText(0), 16, 64); ok && err == nil && got == want {
			delete(missing, doc)
		}
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report(resolver.Problem{Where: index, Code: "unreadable", Detail: err.Error()})
		return nil
	}
	if len(missing) > 0 {
		report(resolver.Problem{Where: index, Code: "index", Detail: fmt.Sprintf("of %d rows it lacks what it should find them by", len(missing))})
	}
	return nil
}
