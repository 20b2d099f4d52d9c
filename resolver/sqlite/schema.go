package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitemigration"

	"github.com/openpith/evidence/resolver"
)

// migrate brings a database to the newest schema. A step that fails, or that a
// crash interrupts, leaves the database as it was before the step.
func migrate(ctx context.Context, conn *sqlite.Conn) error {
	var version, app int32
	read := func() error {
		number := func(to *int32) func(*sqlite.Stmt) error {
			return func(stmt *sqlite.Stmt) error { *to = stmt.ColumnInt32(0); return nil }
		}
		return errors.Join(run(conn, `PRAGMA user_version`, number(&version)), run(conn, `PRAGMA application_id`, number(&app)))
	}
	err := read()
	if err == nil {
		err = register(conn)
	}
	if err != nil {
		return err
	}
	if int(version) != len(schema.Migrations) || app != schema.AppID { // to ask with the right to write needs room on the disk at times
		err = sqlitemigration.Migrate(ctx, conn, schema)
		if err == nil {
			err = read()
		}
	}
	if err == nil && int(version) > len(schema.Migrations) {
		err = fmt.Errorf("%w: its schema is %d, this program knows %d", resolver.ErrNewer, version, len(schema.Migrations))
	}
	return err
}

// ours reports whether the database is a mirror's, or empty.
func ours(conn *sqlite.Conn) error {
	foreign := false
	err := run(conn, `SELECT application_id <> ? AND (application_id <> 0 OR EXISTS (SELECT 1 FROM sqlite_schema)) FROM pragma_application_id`, func(stmt *sqlite.Stmt) error {
		foreign = stmt.ColumnInt(0) != 0
		return nil
	}, int64(schema.AppID))
	if err == nil && foreign {
		err = resolver.ErrForeign
	}
	return err
}

// register gives a connection the functions that steps use.
func register(conn *sqlite.Conn) error {
	for name, of := range map[string]func(sqlite.Value) string{
		"pith_words": func(v sqlite.Value) string { return words(v.Text()) },
		"pith_term": func(v sqlite.Value) string {
			if v.Type() == sqlite.TypeBlob {
				return term(v.Blob())
			}
			return term(v.Text())
		},
	} {
		err := conn.CreateFunction(name, &sqlite.FunctionImpl{NArgs: 1, Deterministic: true, Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.TextValue(of(args[0])), nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// words is a text as the search index takes it.
func words(text string) string { return strings.Join(resolver.SearchWords(text), " ") }

// term is a digest, or the text that an event claims as its id, as indexes of them
// have it: 16 letters and digits.
func term(id any) string {
	switch id := id.(type) {
	case []byte:
		return hex.EncodeToString(id[:min(len(id), 8)])
	case string:
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:8])
	}
	panic(fmt.Sprintf("no term for %T", id))
}

// schema lists what makes an empty database one of ours, step by step. A step
// that was published is never changed: databases out there have it.
var schema = sqlitemigration.Schema{
	AppID: 0x50697468, // "Pith"
	Migrations: []string{
		// 1: records, events, keys, what was held, small values.
		//
		// Bundles lie in a table of their own, so that lists of records do not
		// drag them through memory. counter has one row.
		`
CREATE TABLE record (
	id INTEGER PRIMARY KEY,
	suffix TEXT NOT NULL UNIQUE,
	number TEXT NOT NULL,
	revision INTEGER NOT NULL UNIQUE,
	digest BLOB NOT NULL,
	size INTEGER NOT NULL,
	events BLOB NOT NULL,
	state BLOB NOT NULL,
	united INTEGER NOT NULL,
	event_count INTEGER NOT NULL,
	replications INTEGER NOT NULL,
	aliases TEXT NOT NULL, -- JSON
	source TEXT NOT NULL,
	title TEXT NOT NULL,
	authors TEXT NOT NULL,
	categories TEXT NOT NULL, -- JSON
	abstract TEXT NOT NULL,
	submitted INTEGER NOT NULL, -- seconds since 1970; years before 1 are never
	built_at INTEGER NOT NULL
);
CREATE INDEX record_digest ON record(digest);
CREATE TABLE bundle (id INTEGER PRIMARY KEY REFERENCES record, gzip BLOB NOT NULL);
CREATE TABLE alias (kind TEXT NOT NULL, value TEXT NOT NULL, record INTEGER NOT NULL REFERENCES record, PRIMARY KEY (kind, value, record)) WITHOUT ROWID;
CREATE TABLE event (
	seq INTEGER PRIMARY KEY,
	event_id BLOB NOT NULL, -- 32 bytes, or the text that an invalid event claims
	record INTEGER NOT NULL REFERENCES record,
	sha256 BLOB NOT NULL,
	type TEXT NOT NULL,
	signer_id TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	received_at INTEGER NOT NULL,
	invalid TEXT NOT NULL
);
CREATE INDEX event_id ON event(event_id);
CREATE UNIQUE INDEX event_record ON event(record, sha256);
CREATE TABLE citation (
	kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL REFERENCES event,
	record INTEGER NOT NULL REFERENCES record, event_id TEXT NOT NULL, relation TEXT NOT NULL,
	PRIMARY KEY (kind, id, seq)
) WITHOUT ROWID;
CREATE TABLE key (fingerprint TEXT PRIMARY KEY, signer_id TEXT NOT NULL, entry BLOB NOT NULL, declared_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE held (
	id INTEGER PRIMARY KEY, status TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, suffix TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
	signer TEXT NOT NULL, sender TEXT NOT NULL, received_at INTEGER NOT NULL, data BLOB NOT NULL, truncated INTEGER NOT NULL
);
CREATE INDEX held_status ON held(status, id);
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	records INTEGER NOT NULL, events INTEGER NOT NULL, keys INTEGER NOT NULL, refused INTEGER NOT NULL, queued INTEGER NOT NULL, revision INTEGER NOT NULL
);
INSERT INTO counter VALUES (1, 0, 0, 0, 0, 0, 0);
`,
		// 2: search. The index holds no text and no positions: words are looked
		// up in it, and the rows are shown from record.
		`
CREATE VIRTUAL TABLE search USING fts5(title, authors, categories, abstract, content='', contentless_delete=1, detail=none, tokenize="unicode61 remove_diacritics 2");
INSERT INTO search(rowid, title, authors, categories, abstract) SELECT id, title, authors, categories, abstract FROM record;
`,
		// 3: words are cut by resolver.SearchWords, the same in every store, and
		// not by SQLite: what it is given has nothing but words and spaces.
		`
DROP TABLE search;
CREATE VIRTUAL TABLE search USING fts5(title, authors, categories, abstract, content='', contentless_delete=1, detail=none, tokenize="ascii");
INSERT INTO search(rowid, title, authors, categories, abstract) SELECT id, pith_words(title), pith_words(authors), pith_words(categories), pith_words(abstract) FROM record;
`,
		// 4: of categories that JSON writes with a backslash, like q&bio, the words
		// of the JSON were indexed.
		`
DELETE FROM search WHERE rowid IN (SELECT id FROM record WHERE instr(categories, '\'));
INSERT INTO search(rowid, title, authors, categories, abstract)
	SELECT id, pith_words(title), pith_words(authors), pith_words((SELECT group_concat(value, ' ') FROM json_each(categories))), pith_words(abstract)
	FROM record WHERE instr(categories, '\');
`,
		// 5: keys that were declared and of which nothing came are forgotten in time.
		// Of those that are there nobody knows: they stay.
		`
ALTER TABLE key ADD COLUMN used INTEGER NOT NULL DEFAULT 1; -- a bundle brought it
CREATE INDEX key_unused ON key(declared_at) WHERE used = 0;
`,
		// 6: digests and event ids are random, so each of them changed another page of
		// its index: a commit of 512 records wrote 1,100 pages for 60 kB of them. The
		// index of a full-text search is written in sorted runs, which are merged later.
		// A term is the beginning of a digest, so who looks one up compares the row.
		// Rows of events have their numbers, those of records the revision that had the
		// digest: both only grow, and an old revision is nobody's now. A process of an
		// older program that has the file open would not write them: the new name of
		// counts ends its commits.
		`
ALTER TABLE counter RENAME TO counts;
DROP INDEX record_digest;
DROP INDEX event_id;
CREATE VIRTUAL TABLE record_digest USING fts5(term, content='', columnsize=0, detail=none, tokenize="ascii");
CREATE VIRTUAL TABLE event_id USING fts5(term, content='', columnsize=0, detail=none, tokenize="ascii");
INSERT INTO record_digest(rowid, term) SELECT revision, pith_term(digest) FROM record ORDER BY revision;
INSERT INTO event_id(rowid, term) SELECT seq, pith_term(event_id) FROM event ORDER BY seq;
`,
		// 7: what waits in a bundle waits once, however often the rest of it changes, so
		// the digest by which a submission is known need not be that of its bytes.
		`
ALTER TABLE held ADD COLUMN sha256 BLOB; -- of the bytes as they came; NULL: as digest
CREATE INDEX held_sha256 ON held(sha256);
`,
	},
}
