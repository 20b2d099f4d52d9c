package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/openpith/evidence/resolver"
)

// checks are questions that a sound database answers with no rows. Each row of
// an answer is a place where it is damaged.
var checks = []struct{ code, query string }{
	{"bundle_missing", `SELECT 'record ' || suffix FROM record LEFT JOIN bundle USING (id) WHERE bundle.id IS NULL`},
	{"bundle_orphan", `SELECT 'bundle ' || bundle.id FROM bundle LEFT JOIN record USING (id) WHERE record.id IS NULL`},
	{"event_orphan", `SELECT 'event ' || seq FROM event LEFT JOIN record ON record.id = event.record WHERE record.id IS NULL`},
	{"alias_orphan", `SELECT 'alias ' || kind || ' ' || left(value, 100) FROM alias LEFT JOIN record ON record.id = alias.record WHERE record.id IS NULL`},
	{"citation_orphan", `SELECT 'citation of ' || left(citation.id, 100) FROM citation LEFT JOIN event USING (seq) WHERE event.seq IS NULL OR event.record <> citation.record`},
	{"citation_type", `SELECT 'citation of ' || left(citation.id, 100) FROM citation JOIN event USING (seq) WHERE event.type <> 'citation_signature'`},
	{"citation_twice", `SELECT 'event ' || seq FROM citation GROUP BY seq HAVING count(*) > 1`},
	{"key_unused", `SELECT 'key ' || fingerprint FROM key WHERE NOT used AND fingerprint IN (SELECT fingerprint FROM event WHERE invalid = '')`},
	{"event_numbers", `SELECT 'events' FROM (SELECT count(*) AS n, coalesce(max(seq), -1) AS last, coalesce(min(seq), 0) AS first FROM event) AS all_events WHERE first <> 0 OR last <> n - 1`},
	{"search_missing", `SELECT 'record ' || suffix FROM record LEFT JOIN search USING (id) WHERE search.id IS NULL`},
	{"search_orphan", `SELECT 'search ' || search.id FROM search LEFT JOIN record USING (id) WHERE record.id IS NULL`},
	{"held_status", `SELECT 'held submission ' || id FROM held WHERE status NOT IN ('refused', 'queued', 'accepted', 'rejected')`},
	{"counter", `SELECT 'counters' FROM counter WHERE records <> (SELECT count(*) FROM record) OR events <> (SELECT count(*) FROM event) OR keys <> (SELECT count(*) FROM key)
		OR refused <> (SELECT count(*) FROM held WHERE status = 'refused') OR queued <> (SELECT count(*) FROM held WHERE status = 'queued')
		OR revision <> (SELECT coalesce(max(revision), 0) FROM record)`},
	{"counter_row", `SELECT 'counters' WHERE (SELECT count(*) FROM counter) <> 1`},
}

// Check implements resolver.Store. All rows are read, which makes a server with
// checksums (initdb --data-checksums) compare them; indexes are the matter of
// PostgreSQL's own pg_amcheck, except the one of digests, a hash, which that does not
// read: every digest is looked up in it.
func (s *Store) Check(ctx context.Context, report func(resolver.Problem)) error {
	return s.snapshot(ctx, func(tx pgx.Tx) error {
		for _, c := range checks {
			const most = 100 // of one kind: the rest says nothing new
			places, err := many(ctx, tx, readText, c.query+` LIMIT `+strconv.Itoa(most))
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				report(resolver.Problem{Where: "database", Code: "unreadable", Detail: fmt.Sprintf("%s: %v", c.code, err)})
				return nil // the transaction has failed
			}
			for _, place := range places {
				report(resolver.Problem{Where: place, Code: c.code, Detail: "the tables of the database do not agree"})
			}
		}
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off`); err != nil { // else indexes of small tables are not looked at
			return err
		}
		return checkRecords(ctx, tx, report)
	})
}

// checkRecords compares the words under which records are found with their texts,
// looks each up by its digest, and counts the names that lead to it. That none of its
// own is missing, resolver.Fsck asks; so one too many is another's.
func checkRecords(ctx context.Context, tx pgx.Tx, report func(resolver.Problem)) error {
	const page = 500
	for after := int64(0); ; {
		type row struct {
			id             int64
			suffix, vector string
		}
		rows, err := many(ctx, tx, func(r pgx.CollectableRow) (out row, err error) {
			var rec resolver.Record
			var categories, aliases string
			var lead int
			var found bool
			if err := r.Scan(&out.id, &out.suffix, &rec.Title, &rec.Authors, &categories, &rec.Abstract, &aliases, &lead, &found); err != nil {
				return out, err
			}
			if !found {
				report(resolver.Problem{Where: "record " + out.suffix, Code: "index", Detail: "it is not found by its digest: REINDEX INDEX record_digest"})
			}
			if err := unlist(aliases, &rec.Aliases); err != nil || len(resolver.FoldAliases(rec.Aliases)) != lead {
				report(resolver.Problem{Where: "record " + out.suffix, Code: "alias_number", Detail: fmt.Sprintf("%d names lead to it, it has %d", lead, len(resolver.FoldAliases(rec.Aliases)))})
			}
			rec.Title, rec.Authors, rec.Abstract = unpack(rec.Title), unpack(rec.Authors), unpack(rec.Abstract)
			err = unlist(categories, &rec.Categories)
			out.vector = words(&rec)
			return out, err
		}, `SELECT id, suffix, title, authors, categories, abstract, aliases, (SELECT count(*) FROM alias WHERE alias.record = record.id),
			EXISTS (SELECT FROM record AS same WHERE same.digest = record.digest) FROM record WHERE id > $1 ORDER BY id LIMIT $2`, after, page)
		if err != nil || len(rows) == 0 {
			return err
		}
		ids, vectors := make([]int64, len(rows)), make([]string, len(rows))
		for i, r := range rows {
			ids[i], vectors[i], after = r.id, r.vector, r.id
		}
		wrong, err := many(ctx, tx, readText, `SELECT 'record ' || suffix FROM unnest($1::bigint[], $2::text[]) AS want (id, words) JOIN search USING (id) JOIN record USING (id) WHERE search.words <> want.words::tsvector`, ids, vectors)
		if err != nil {
			return err
		}
		for _, place := range wrong {
			report(resolver.Problem{Where: place, Code: "search_words", Detail: "it is not found by its words, or by others"})
		}
	}
}
