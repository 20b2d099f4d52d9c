package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/openpith/evidence/resolver"
)

// migrations lists what makes an empty schema one of ours, step by step. A step
// that was published is never changed: databases out there have it.
//
// Texts that strangers wrote may be of any length, so no B-tree holds them, which
// takes 2,704 bytes: names are found by hash indexes. Texts compare by bytes.
var migrations = []string{
	// 1: everything. Bundles and words lie in tables of their own, so that lists
	// of records do not drag them along. counter has one row; who writes locks it.
	`
CREATE TABLE record (
	id bigint PRIMARY KEY, -- the revision in which it came
	suffix text COLLATE "C" NOT NULL UNIQUE,
	number text NOT NULL,
	revision bigint NOT NULL UNIQUE,
	digest bytea NOT NULL,
	size bigint NOT NULL,
	events bytea NOT NULL,
	state bytea NOT NULL,
	united boolean NOT NULL,
	event_count bigint NOT NULL,
	replications bigint NOT NULL,
	aliases text NOT NULL, -- JSON
	source text NOT NULL,
	title text NOT NULL,
	authors text NOT NULL,
	categories text NOT NULL, -- JSON
	abstract text NOT NULL,
	submitted timestamptz NOT NULL, -- the first instant of year 1 is never
	built_at timestamptz NOT NULL
);
CREATE INDEX record_digest ON record USING hash (digest);
CREATE TABLE bundle (id bigint PRIMARY KEY REFERENCES record, gzip bytea NOT NULL);
ALTER TABLE bundle ALTER gzip SET STORAGE EXTERNAL; -- it is compressed
CREATE TABLE search (id bigint PRIMARY KEY REFERENCES record, words tsvector NOT NULL);
CREATE INDEX search_words ON search USING gin (words);
CREATE TABLE alias (record bigint NOT NULL REFERENCES record, kind text NOT NULL, value text NOT NULL);
CREATE INDEX alias_record ON alias (record);
CREATE INDEX alias_name ON alias USING hash ((kind || ' ' || value));
CREATE TABLE event (
	seq bigint PRIMARY KEY,
	event_id bytea NOT NULL, -- 'd' and a digest, or 't' and the text that an invalid event claims
	record bigint NOT NULL REFERENCES record,
	sha256 bytea NOT NULL,
	type text NOT NULL,
	signer_id text NOT NULL,
	fingerprint text NOT NULL,
	created_at timestamptz NOT NULL,
	received_at timestamptz NOT NULL,
	invalid text NOT NULL
);
CREATE INDEX event_id ON event USING hash (event_id);
CREATE UNIQUE INDEX event_record ON event (record, sha256);
CREATE TABLE citation (
	seq bigint NOT NULL REFERENCES event, record bigint NOT NULL REFERENCES record,
	kind text NOT NULL, id text NOT NULL, event_id text NOT NULL, relation text NOT NULL
);
CREATE INDEX citation_name ON citation USING hash ((kind || ' ' || id));
CREATE TABLE key (fingerprint text COLLATE "C" PRIMARY KEY, signer_id text NOT NULL, entry bytea NOT NULL, declared_at timestamptz NOT NULL);
CREATE TABLE held (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL, digest bytea NOT NULL UNIQUE, suffix text NOT NULL, code text NOT NULL, detail text NOT NULL,
	signer text NOT NULL, sender text NOT NULL, received_at timestamptz NOT NULL, data bytea NOT NULL, truncated boolean NOT NULL
);
CREATE INDEX held_status ON held (status, id);
CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE counter (
	one boolean PRIMARY KEY CHECK (one),
	records bigint NOT NULL, events bigint NOT NULL, keys bigint NOT NULL, refused bigint NOT NULL, queued bigint NOT NULL, revision bigint NOT NULL
);
INSERT INTO counter VALUES (true, 0, 0, 0, 0, 0, 0);
`,
	// 2: keys that were declared and of which nothing came are forgotten in time.
	// Of those that are there nobody knows: they stay.
	`
ALTER TABLE key ADD COLUMN used boolean NOT NULL DEFAULT true; -- a bundle brought it
CREATE INDEX key_unused ON key (declared_at) WHERE NOT used;
`,
	// 3: what waits in a bundle waits once, however often the rest of it changes, so
	// the digest by which a submission is known need not be that of its bytes.
	`
ALTER TABLE held ADD COLUMN sha256 bytea; -- of the bytes as they came; NULL: as digest
CREATE INDEX held_sha256 ON held (sha256);
`,
}

// migrate brings a schema of a database to the newest version, in one
// transaction, and makes it first if it may. Of several processes one does it, the
// others wait.
func migrate(ctx context.Context, conn *pgx.Conn, schema string, create bool) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('pith migrate ' || $1, 0))`, schema); err != nil {
			return err
		}
		var encoding string
		var there, used bool
		err := tx.QueryRow(ctx, `SELECT current_setting('server_encoding'), EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
			EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'version')`, schema).Scan(&encoding, &there, &used)
		if err != nil {
			return err
		}
		if encoding != "UTF8" {
			return fmt.Errorf("the database has the encoding %s, not UTF8", encoding)
		}
		if !used && !create {
			return fmt.Errorf("the schema %s: %w", schema, resolver.ErrNoStore)
		}
		if !there {
			if _, err := tx.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{schema}.Sanitize()); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS version (version integer NOT NULL)`); err != nil {
			return err
		}
		version := 0
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM version`).Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("%w: its schema is %d, this program knows %d", resolver.ErrNewer, version, len(migrations))
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.Exec(ctx, migrations[version]); err != nil {
				return fmt.Errorf("step %d of the schema: %w", version+1, err)
			}
			if _, err := tx.Exec(ctx, `DELETE FROM version`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO version VALUES ($1)`, version+1); err != nil {
				return err
			}
		}
		return nil
	})
}
