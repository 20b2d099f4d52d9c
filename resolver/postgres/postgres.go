// Package postgres keeps records in a PostgreSQL database: the store of a mirror
// that several processes serve, on one machine or many.
//
// Any number of processes may write. A commit locks the one row of the table
// counter until it is on the disk, so numbers are given in the order in which
// commits become visible: there are no gaps, and who sees a number sees all before
// it. What a commit takes does not depend on how much is in it but for the rows
// themselves: six round trips, begin and commit included, so batches make loading fast.
package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/openpith/evidence/resolver"
)

// A Store is a resolver.Store in one schema of a database.
type Store struct {
	pool   *pgxpool.Pool
	schema string

	mu    sync.Mutex
	locks map[string]chan struct{}
}

var (
	_ resolver.Store = (*Store)(nil)
	_ resolver.Quick = (*Store)(nil)
)

// Open connects to a database, makes a schema in it if need be, and brings that
// to the newest version. dsn is a connection string of libpq, whose variables
// (PGPASSWORD and so on) and ~/.pgpass count too; the schema is pith unless the
// string says search_path.
func Open(ctx context.Context, dsn string) (*Store, error) { return openBy(ctx, dsn, true) }

// OpenThere is Open for a schema that has a mirror in it. Errors: resolver.ErrNoStore.
func OpenThere(ctx context.Context, dsn string) (*Store, error) { return openBy(ctx, dsn, false) }

func openBy(ctx context.Context, dsn string, create bool) (*Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err // without the password
	}
	params := config.ConnConfig.RuntimeParams
	params["application_name"] = cmp.Or(params["application_name"], "pith")
	params["search_path"] = cmp.Or(params["search_path"], "pith")
	s := &Store{schema: params["search_path"], locks: map[string]chan struct{}{}}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// A commit is on the disk before it is acknowledged, whatever the server's
		// default is. It may be set to wait for more than that.
		_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
		return err
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return migrate(ctx, conn.Conn(), s.schema, create) })
	if err != nil {
		s.pool.Close()
		return nil, full(err)
	}
	return s, nil
}

// Close implements resolver.Store.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// full says of an error what it means when it means that there is no room.
func full(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "53100" { // disk_full
		return fmt.Errorf("%w: %w", resolver.ErrFull, err)
	}
	return err
}

// write runs f in a transaction, all or nothing, while nobody else writes.
func (s *Store) write(ctx context.Context, f func(pgx.Tx, *resolver.Counts) error) error {
	return full(pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var c resolver.Counts
		row := tx.QueryRow(ctx, countQuery+` FOR UPDATE`)
		if err := row.Scan(&c.Records, &c.Events, &c.Keys, &c.Refused, &c.Queued, &c.Revision); err != nil {
			return fmt.Errorf("counters: %w", err)
		}
		before := c
		if err := f(tx, &c); err != nil {
			return err
		}
		if c == before {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE counter SET (records, events, keys, refused, queued, revision) = ($1, $2, $3, $4, $5, $6)`,
			c.Records, c.Events, c.Keys, c.Refused, c.Queued, c.Revision)
		return err
	}))
}

// snapshot runs f with a transaction that sees one state of the database.
func (s *Store) snapshot(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// many reads any number of rows.
func many[T any](ctx context.Context, q querier, row func(pgx.CollectableRow) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, row)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	return out, nil
}

// one reads a row.
func one[T any](ctx context.Context, q querier, row func(pgx.CollectableRow) (T, error), query string, args ...any) (T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		var none T
		return none, err
	}
	v, err := pgx.CollectOneRow(rows, row)
	if errors.Is(err, pgx.ErrNoRows) {
		err = resolver.ErrNotFound
	}
	return v, err
}

func readText(row pgx.CollectableRow) (string, error) {
	var v string
	err := row.Scan(&v)
	return unpack(v), err
}

// PostgreSQL cannot keep the character zero, which JSON can say. pack writes it,
// and the character by which it is written, as two; all other text stays as it is.
var (
	packer   = strings.NewReplacer("\x1a", "\x1a1", "\x00", "\x1a0")
	unpacker = strings.NewReplacer("\x1a1", "\x1a", "\x1a0", "\x00")
)

func pack(s string) string   { return packer.Replace(s) }
func unpack(s string) string { return unpacker.Replace(s) }

// list writes a list as a column, unlist reads it.
func list(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings can always be written
	}
	if string(text) == "null" {
		return "[]"
	}
	return string(text)
}

func unlist[T any](text string, v *[]T) error {
	if text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}

// eventID is an event id as a column: ids that are digests take 33 bytes.
func eventID(id string) []byte {
	if sum, ok := strings.CutPrefix(id, "sha256:"); ok {
		if d, err := resolver.ParseDigest(sum); err == nil {
			return append([]byte{'d'}, d[:]...)
		}
	}
	return append([]byte{'t'}, id...)
}

func readEventID(raw []byte) string {
	switch {
	case len(raw) == 33 && raw[0] == 'd':
		return "sha256:" + hex.EncodeToString(raw[1:])
	case len(raw) > 0 && raw[0] == 't':
		return string(raw[1:])
	}
	return string(raw) // of no form: fsck finds it
}

// digest is what a column should hold; of another size it is none.
func digest(raw []byte) (d resolver.Digest) {
	if len(raw) == len(d) {
		copy(d[:], raw)
	}
	return d
}

// words is a text vector. Words of the title weigh most, then authors, then
// categories, then the abstract.
func words(r *resolver.Record) string {
	const mostPositions, mostBytes = 16383, 1_000_000 // of PostgreSQL
	var b strings.Builder
	n := 0
	for i, text := range r.SearchTexts() {
		for _, w := range resolver.SearchWords(text) {
			if n++; b.Len()+len(w)+16 > mostBytes {
				return b.String()
			}
			b.WriteByte('\'')
			b.WriteString(w) // letters, digits and marks
			b.WriteString("':")
			b.WriteString(strconv.Itoa(min(n, mostPositions)))
			b.WriteByte("ABCD"[i])
			b.WriteByte(' ')
		}
	}
	return b.String()
}

const recordColumns = `suffix, number, revision, digest, size, events, state, united, event_count, replications, aliases, source, title, authors, categories, abstract, submitted, built_at`

// recordFields are where a row of recordColumns goes, and what makes a record of it.
func recordFields(r *resolver.Record) (fields []any, finish func() error) {
	var bundle, events, state []byte
	var aliases, categories string
	return []any{
			&r.Suffix, &r.Number, &r.Revision, &bundle, &r.Size, &events, &state, &r.United, &r.EventCount, &r.Replications,
			&aliases, &r.Source, &r.Title, &r.Authors, &categories, &r.Abstract, &r.Submitted, &r.BuiltAt,
		}, func() error {
			r.Digest, r.Events, r.State = digest(bundle), digest(events), digest(state)
			for _, text := range []*string{&r.Source, &r.Title, &r.Authors, &r.Abstract} {
				*text = unpack(*text)
			}
			r.Submitted, r.BuiltAt = r.Submitted.UTC(), r.BuiltAt.UTC()
			return errors.Join(unlist(aliases, &r.Aliases), unlist(categories, &r.Categories))
		}
}

func readRecord(row pgx.CollectableRow) (r resolver.Record, err error) {
	fields, finish := recordFields(&r)
	if err := row.Scan(fields...); err != nil {
		return r, err
	}
	return r, finish()
}

func readStored(row pgx.CollectableRow) (s resolver.Stored, err error) {
	fields, finish := recordFields(&s.Record)
	if err := row.Scan(append(fields, &s.Bundle)...); err != nil {
		return s, err
	}
	return s, finish()
}

const countQuery = `SELECT records, events, keys, refused, queued, revision FROM counter`

// Counts implements resolver.Store.
func (s *Store) Counts(ctx context.Context) (resolver.Counts, error) {
	c, err := one(ctx, s.pool, func(row pgx.CollectableRow) (c resolver.Counts, err error) {
		return c, row.Scan(&c.Records, &c.Events, &c.Keys, &c.Refused, &c.Queued, &c.Revision)
	}, countQuery)
	if errors.Is(err, resolver.ErrNotFound) {
		err = nil // the row was deleted: nothing can be written, fsck tells
	}
	return c, err
}

// Record implements resolver.Store.
func (s *Store) Record(ctx context.Context, suffix string) (resolver.Record, error) {
	return one(ctx, s.pool, readRecord, `SELECT `+recordColumns+` FROM record WHERE suffix = $1`, pack(suffix))
}

// Bundle implements resolver.Store.
func (s *Store) Bundle(ctx context.Context, suffix string) (resolver.Record, []byte, error) {
	v, err := one(ctx, s.pool, readStored, `SELECT `+recordColumns+`, gzip FROM record LEFT JOIN bundle USING (id) WHERE suffix = $1`, pack(suffix))
	return v.Record, v.Bundle, err
}

// Bundles implements resolver.Store.
func (s *Store) Bundles(ctx context.Context, suffixes []string) ([]resolver.Stored, error) {
	return many(ctx, s.pool, readStored, `SELECT `+recordColumns+`, gzip FROM record LEFT JOIN bundle USING (id) WHERE suffix = ANY($1)`, suffixes)
}

// Tag implements resolver.Quick.
func (s *Store) Tag(ctx context.Context, suffix string) (resolver.Digest, error) {
	raw, err := one(ctx, s.pool, pgx.RowTo[[]byte], `SELECT digest FROM record WHERE suffix = $1`, pack(suffix))
	return digest(raw), err
}

// Packed implements resolver.Quick.
func (s *Store) Packed(ctx context.Context, suffix string) (resolver.Digest, []byte, error) {
	type answer struct{ digest, gzip []byte }
	a, err := one(ctx, s.pool, func(row pgx.CollectableRow) (a answer, err error) {
		return a, row.Scan(&a.digest, &a.gzip)
	}, `SELECT digest, gzip FROM record LEFT JOIN bundle USING (id) WHERE suffix = $1`, pack(suffix))
	return digest(a.digest), a.gzip, err
}

// Resolve implements resolver.Store.
func (s *Store) Resolve(ctx context.Context, prefix string, limit int) ([]string, error) {
	return many(ctx, s.pool, readText, `SELECT suffix FROM record WHERE suffix >= $1 AND suffix < $2 ORDER BY suffix LIMIT $3`, pack(prefix), pack(prefix)+"\x7f", limit)
}

// ByAlias implements resolver.Store.
func (s *Store) ByAlias(ctx context.Context, kind, value string, limit int) ([]string, error) {
	return many(ctx, s.pool, readText, `SELECT DISTINCT suffix FROM alias JOIN record ON record.id = alias.record
WHERE alias.kind || ' ' || value = $1 || ' ' || $2 AND kind = $1 AND value = $2 ORDER BY suffix LIMIT $3`, pack(kind), pack(value), limit)
}

// ByDigest implements resolver.Store.
func (s *Store) ByDigest(ctx context.Context, digest resolver.Digest) (string, error) {
	return one(ctx, s.pool, readText, `SELECT suffix FROM record WHERE digest = $1 ORDER BY id LIMIT 1`, digest[:])
}

// Search implements resolver.Store.
func (s *Store) Search(ctx context.Context, query string, limit, offset int) (found []resolver.Record, total int, err error) {
	words := resolver.QueryWords(query)
	if len(words) == 0 {
		return nil, 0, nil
	}
	match := `'` + strings.Join(words, `':* & '`) + `':*` // words are letters, digits and marks
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM search WHERE words @@ $1::tsquery LIMIT $2) AS found`, match, resolver.MaxCounted).Scan(&total)
		if err != nil || total <= offset {
			return err
		}
		// To weigh every match of a word that is everywhere would take seconds.
		order := `ts_rank(words, $1::tsquery) DESC, id DESC`
		if total >= resolver.MaxCounted {
			order = `id DESC`
		}
		found, err = many(ctx, tx, readRecord, `SELECT `+recordColumns+` FROM (SELECT id, row_number() OVER (ORDER BY `+order+`) AS place FROM search WHERE words @@ $1::tsquery ORDER BY place LIMIT $2 OFFSET $3) AS best JOIN record USING (id) ORDER BY place`,
			match, limit, max(offset, 0))
		return err
	})
	return found, total, err
}

// Records implements resolver.Store.
func (s *Store) Records(ctx context.Context, prefix, after string, limit int) ([]resolver.Record, error) {
	return many(ctx, s.pool, readRecord, `SELECT `+recordColumns+` FROM record WHERE suffix > $1 AND suffix >= $2 AND suffix < $3 ORDER BY suffix LIMIT $4`,
		pack(after), pack(prefix), pack(prefix)+"\x7f", limit)
}

// ChangedAfter implements resolver.Store.
func (s *Store) ChangedAfter(ctx context.Context, revision int64, limit int) ([]resolver.Record, error) {
	return many(ctx, s.pool, readRecord, `SELECT `+recordColumns+` FROM record WHERE revision > $1 ORDER BY revision LIMIT $2`, revision, limit)
}

// Fingerprints implements resolver.Store. It reads page by page, of one state.
func (s *Store) Fingerprints(ctx context.Context, prefix string, yield func(resolver.Fingerprint) error) error {
	const page = 10_000
	return s.snapshot(ctx, func(tx pgx.Tx) error {
		for after := ""; ; {
			some, err := many(ctx, tx, func(row pgx.CollectableRow) (f resolver.Fingerprint, err error) {
				var events, state []byte
				err = row.Scan(&f.Suffix, &events, &state)
				f.Events, f.State = digest(events), digest(state)
				return f, err
			}, `SELECT suffix, events, state FROM record WHERE suffix > $1 AND suffix >= $2 AND suffix < $3 ORDER BY suffix LIMIT $4`, after, pack(prefix), pack(prefix)+"\x7f", page)
			if err != nil {
				return err
			}
			for _, f := range some {
				if err := yield(f); err != nil {
					return err
				}
				after = f.Suffix
			}
			if len(some) < page {
				return nil
			}
		}
	})
}

// An event whose record is gone is a gap that a reader must see.
const fromEvents = `SELECT seq, event_id, coalesce(suffix, ''), sha256, type, signer_id, fingerprint, created_at, received_at, invalid FROM event LEFT JOIN record ON record.id = event.record `

func readEvent(row pgx.CollectableRow) (e resolver.Event, err error) {
	var id, sum []byte
	err = row.Scan(&e.Seq, &id, &e.Suffix, &sum, &e.Type, &e.SignerID, &e.Fingerprint, &e.CreatedAt, &e.ReceivedAt, &e.Invalid)
	e.ID, e.SHA256, e.CreatedAt, e.ReceivedAt = readEventID(id), digest(sum), e.CreatedAt.UTC(), e.ReceivedAt.UTC()
	e.Type, e.SignerID, e.Fingerprint, e.Invalid = unpack(e.Type), unpack(e.SignerID), unpack(e.Fingerprint), unpack(e.Invalid)
	return e, err
}

// EventsFrom implements resolver.Store.
func (s *Store) EventsFrom(ctx context.Context, seq int64, limit int) ([]resolver.Event, error) {
	return many(ctx, s.pool, readEvent, fromEvents+`WHERE seq >= $1 ORDER BY seq LIMIT $2`, seq, limit)
}

// RecentEvents implements resolver.Store.
func (s *Store) RecentEvents(ctx context.Context, before int64, limit int) ([]resolver.Event, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return many(ctx, s.pool, readEvent, fromEvents+`WHERE seq < $1 ORDER BY seq DESC LIMIT $2`, before, limit)
}

// RecordEvents implements resolver.Store.
func (s *Store) RecordEvents(ctx context.Context, suffix string) ([]resolver.Event, error) {
	return many(ctx, s.pool, readEvent, fromEvents+`WHERE event.record = (SELECT id FROM record WHERE suffix = $1) ORDER BY seq`, pack(suffix))
}

// Event implements resolver.Store.
func (s *Store) Event(ctx context.Context, id string) (resolver.Event, error) {
	return one(ctx, s.pool, readEvent, fromEvents+`WHERE event_id = $1 ORDER BY invalid <> '', seq LIMIT 1`, eventID(id))
}

// Citations implements resolver.Store.
func (s *Store) Citations(ctx context.Context, kind, id string, limit int) ([]resolver.Citation, error) {
	return many(ctx, s.pool, func(row pgx.CollectableRow) (c resolver.Citation, err error) {
		err = row.Scan(&c.Kind, &c.ID, &c.Suffix, &c.EventID, &c.Relation, &c.Seq)
		c.Kind, c.ID, c.EventID, c.Relation = unpack(c.Kind), unpack(c.ID), unpack(c.EventID), unpack(c.Relation)
		return c, err
	}, `SELECT kind, citation.id, suffix, event_id, relation, seq FROM citation JOIN record ON record.id = citation.record
WHERE kind || ' ' || citation.id = $1 || ' ' || $2 AND kind = $1 AND citation.id = $2 ORDER BY seq LIMIT $3`, pack(kind), pack(id), limit)
}

func readKey(row pgx.CollectableRow) (k resolver.Key, err error) {
	err = row.Scan(&k.Fingerprint, &k.SignerID, &k.Entry, &k.DeclaredAt)
	k.SignerID, k.DeclaredAt = unpack(k.SignerID), k.DeclaredAt.UTC()
	return k, err
}

// Key implements resolver.Store.
func (s *Store) Key(ctx context.Context, fingerprint string) (resolver.Key, error) {
	return one(ctx, s.pool, readKey, `SELECT fingerprint, signer_id, entry, declared_at FROM key WHERE fingerprint = $1`, pack(fingerprint))
}

// PutKey implements resolver.Store.
func (s *Store) PutKey(ctx context.Context, k resolver.Key, forget time.Time) error {
	return s.write(ctx, func(tx pgx.Tx, c *resolver.Counts) error {
		tag, err := tx.Exec(ctx, `DELETE FROM key WHERE NOT used AND declared_at < $1 AND fingerprint NOT IN (SELECT signer FROM held WHERE status = 'queued')`, forget)
		if err != nil {
			return err
		}
		c.Keys -= tag.RowsAffected()
		if _, err := tx.Exec(ctx, `UPDATE key SET declared_at = $1 WHERE fingerprint = $2 AND NOT used`, k.DeclaredAt, k.Fingerprint); err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, `INSERT INTO key VALUES ($1, $2, $3, $4, false) ON CONFLICT DO NOTHING`, k.Fingerprint, pack(k.SignerID), k.Entry, k.DeclaredAt)
		c.Keys += tag.RowsAffected()
		return err
	})
}

// Keys implements resolver.Store.
func (s *Store) Keys(ctx context.Context, after string, limit int) ([]resolver.Key, error) {
	return many(ctx, s.pool, readKey, `SELECT fingerprint, signer_id, entry, declared_at FROM key WHERE fingerprint > $1 ORDER BY fingerprint LIMIT $2`, pack(after), limit)
}

// Of rows of before there were two digests both are one.
const heldColumns = `id, status, digest, coalesce(sha256, digest), suffix, code, detail, signer, sender, received_at, data, truncated`

func readHeld(row pgx.CollectableRow) (h resolver.Held, err error) {
	var known, sum []byte
	err = row.Scan(&h.ID, &h.Status, &known, &sum, &h.Suffix, &h.Code, &h.Detail, &h.Signer, &h.From, &h.ReceivedAt, &h.Data, &h.Truncated)
	h.Digest, h.SHA256, h.ReceivedAt = digest(known), digest(sum), h.ReceivedAt.UTC()
	for _, text := range []*string{&h.Suffix, &h.Code, &h.Detail, &h.Signer, &h.From} {
		*text = unpack(*text)
	}
	return h, err
}

// findHeld is the submission with a digest, else the first one with such bytes; of rows
// of before there were two digests both are one.
const findHeld = `SELECT ` + heldColumns + ` FROM held WHERE id = coalesce((SELECT id FROM held WHERE digest = $1), (SELECT min(id) FROM held WHERE sha256 = $2), (SELECT id FROM held WHERE digest = $2 AND sha256 IS NULL))`

// PutHeld implements resolver.Store.
func (s *Store) PutHeld(ctx context.Context, h resolver.Held) (id int64, now resolver.Status, err error) {
	err = s.write(ctx, func(tx pgx.Tx, c *resolver.Counts) error {
		old, err := one(ctx, tx, readHeld, findHeld, h.Digest[:], h.SHA256[:])
		if errors.Is(err, resolver.ErrNotFound) {
			now = h.Status
			c.MoveHeld("", now)
			return tx.QueryRow(ctx, `INSERT INTO held (status, digest, sha256, suffix, code, detail, signer, sender, received_at, data, truncated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id`,
				string(h.Status), h.Digest[:], h.SHA256[:], pack(h.Suffix), pack(h.Code), pack(h.Detail), pack(h.Signer), pack(h.From), h.ReceivedAt, notNil(h.Data), h.Truncated).Scan(&id)
		}
		if err != nil {
			return err
		}
		h = old.Put(h)
		id, now = old.ID, h.Status
		c.MoveHeld(old.Status, now)
		_, err = tx.Exec(ctx, `UPDATE held SET (status, digest, sha256, suffix, code, detail, signer, sender, received_at, data, truncated) = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) WHERE id = $1`,
			id, string(now), h.Digest[:], h.SHA256[:], pack(h.Suffix), pack(h.Code), pack(h.Detail), pack(h.Signer), pack(h.From), h.ReceivedAt, notNil(h.Data), h.Truncated)
		return err
	})
	return id, now, err
}

// FindHeld implements resolver.Store.
func (s *Store) FindHeld(ctx context.Context, digest resolver.Digest) (int64, resolver.Status, error) {
	h, err := one(ctx, s.pool, readHeld, strings.Replace(findHeld, "data", "NULL::bytea", 1), digest[:], digest[:])
	return h.ID, h.Status, err
}

// Held implements resolver.Store.
func (s *Store) Held(ctx context.Context, status resolver.Status, after int64, limit int) ([]resolver.Held, error) {
	return many(ctx, s.pool, func(row pgx.CollectableRow) (resolver.Held, error) {
		h, err := readHeld(row)
		h.Data = nil
		return h, err
	}, `SELECT `+strings.Replace(heldColumns, "data", "NULL::bytea", 1)+` FROM held WHERE status = $1 AND id > $2 ORDER BY id LIMIT $3`, string(status), after, limit)
}

// HeldByID implements resolver.Store.
func (s *Store) HeldByID(ctx context.Context, id int64) (resolver.Held, error) {
	return one(ctx, s.pool, readHeld, `SELECT `+heldColumns+` FROM held WHERE id = $1`, id)
}

// MoveHeld implements resolver.Store.
func (s *Store) MoveHeld(ctx context.Context, id int64, from, to resolver.Status, code, detail string) error {
	return s.write(ctx, func(tx pgx.Tx, c *resolver.Counts) error {
		tag, err := tx.Exec(ctx, `UPDATE held SET status = $1, code = $2, detail = $3 WHERE id = $4 AND status = $5`, string(to), pack(code), pack(detail), id, string(from))
		if err == nil && tag.RowsAffected() == 0 {
			err = resolver.ErrNotFound
		}
		c.MoveHeld(from, to)
		return err
	})
}

// Meta implements resolver.Store.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	return one(ctx, s.pool, pgx.RowTo[[]byte], `SELECT value FROM meta WHERE key = $1`, pack(key))
}

// SetMeta implements resolver.Store.
func (s *Store) SetMeta(ctx context.Context, key string, value []byte) error {
	query, args := `INSERT INTO meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value`, []any{pack(key), value}
	if value == nil {
		query, args = `DELETE FROM meta WHERE key = $1`, args[:1]
	}
	_, err := s.pool.Exec(ctx, query, args...)
	return full(err)
}

// MetaKeys implements resolver.Store.
func (s *Store) MetaKeys(ctx context.Context, prefix string) ([]string, error) {
	return many(ctx, s.pool, readText, `SELECT key FROM meta WHERE starts_with(key, $1) ORDER BY key`, pack(prefix))
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Backup writes a dump of the schema as it is at one moment to a new file, in the
// custom format of pg_dump, which has to be installed. pg_restore reads it.
func (s *Store) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	program, err := exec.LookPath("pg_dump")
	if err != nil {
		return fmt.Errorf("copy a PostgreSQL database: %w", err)
	}
	config := s.pool.Config().ConnConfig
	u, err := url.Parse(config.ConnString())
	if err != nil {
		return err
	}
	// Of the connection string what libpq knows too, and no secrets: everybody may
	// see arguments.
	u.User = nil
	q := u.Query()
	for name := range q {
		switch name {
		case "host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "target_session_attrs":
		default:
			q.Del(name)
		}
	}
	q.Set("user", config.User)
	u.RawQuery = q.Encode()
	// pg_dump writes into a file that is there already with its mode: what waits for a
	// moderator, and who sent it, are the owner's alone.
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil { // one may be left of a killed attempt
		return err
	}
	cmd := exec.CommandContext(ctx, program, "--format=custom", "--no-password", "--file="+part, "--schema="+pgx.Identifier{s.schema}.Sanitize(), "--dbname="+u.String())
	cmd.Env = append(os.Environ(), "PGPASSWORD="+config.Password)
	out, err := cmd.CombinedOutput()
	if err == nil {
		err = os.Rename(part, path)
	} else {
		err = fmt.Errorf("pg_dump: %w: %s", err, bytes.TrimSpace(out))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}
