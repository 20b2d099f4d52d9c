// Package sqlite keeps records in one SQLite file, without cgo: the store of a
// mirror that runs on one machine.
//
// Readers never wait for the writer (write-ahead log). There is one writer at a
// time, and every commit waits until the disk is sure: batches make loading fast.
package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/openpith/evidence/resolver"
)

// A Store is a resolver.Store in one file.
type Store struct {
	path    string
	vfs     string
	readers *sqlitex.Pool

	writing chan struct{} // holds the right to use writer
	writer  *sqlite.Conn

	mover     *sqlite.Conn  // moves what was committed from the write-ahead log to the database
	committed chan struct{} // tells that there is something to move
	closing   chan struct{}
	moved     chan struct{} // closed when mover is done for good

	mu    sync.Mutex
	locks map[string]chan struct{}
}

var _ resolver.Store = (*Store)(nil)

// Open opens the database at path, makes it if need be, and brings it to the
// newest schema. Several processes may open one file, except where the disk is full,
// see Alone.
func Open(ctx context.Context, path string) (*Store, error) {
	s, err := openBy(ctx, path, "")
	if errors.Is(err, resolver.ErrFull) {
		if alone, failed := openBy(ctx, path, "unix-excl"); failed == nil {
			return alone, nil
		}
	}
	return s, err
}

// Alone reports whether no other process can open the database before this store is
// closed: when it was opened the disk had no room for the index of the write-ahead
// log, which processes share as a file, so it is in memory.
func (s *Store) Alone() bool { return s.vfs != "" }

// openBy is Open by one of SQLite's ways to the disk, "" for the usual one.
func openBy(ctx context.Context, path, vfs string) (*Store, error) {
	// Senders' addresses and what moderators have not let in are nobody else's
	// business. The files beside the database get its mode.
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, err // has operation and path
	}
	uri := "file:" + (&url.URL{Path: filepath.Clean(path)}).EscapedPath()
	if vfs != "" {
		uri += "?vfs=" + vfs
	}
	s := &Store{
		path: path, vfs: vfs, writing: make(chan struct{}, 1), locks: map[string]chan struct{}{},
		committed: make(chan struct{}, 1), closing: make(chan struct{}), moved: make(chan struct{}),
	}
	if s.writer, err = sqlite.OpenConn(uri, sqlite.OpenURI, sqlite.OpenReadWrite, sqlite.OpenCreate); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, full(err))
	}
	if err = prepare(s.writer); err == nil {
		err = ours(s.writer) // before anything is changed in it
	}
	if err == nil {
		s.writer.SetInterrupt(ctx.Done())
		err = pragmas(s.writer, "page_size="+strconv.Itoa(pageSize), "journal_mode=WAL")
		if err == nil {
			err = migrate(ctx, s.writer)
		}
		s.writer.SetInterrupt(nil)
	}
	if err == nil {
		err = s.limitLog()
	}
	if err == nil {
		if s.mover, err = sqlite.OpenConn(uri, sqlite.OpenURI, sqlite.OpenReadWrite, sqlite.OpenWAL); err == nil {
			err = prepare(s.mover)
		}
	}
	if err == nil {
		s.readers, err = sqlitex.NewPool(uri, sqlitex.PoolOptions{
			Flags: sqlite.OpenURI | sqlite.OpenReadOnly | sqlite.OpenWAL, PoolSize: 4 * runtime.GOMAXPROCS(0), PrepareConn: prepare,
		})
	}
	if sqlite.ErrCode(err) == sqlite.ResultNotADB {
		err = resolver.ErrForeign
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("open %s: %w", path, full(err)), s.writer.Close())
		if s.mover != nil {
			err = errors.Join(err, s.mover.Close())
		}
		return nil, err
	}
	go s.move()
	return s, nil
}

// pageSize is that of a new database: one that is there keeps its own. A bundle takes
// some 3 kB as it is stored, so a page of 4 kB held one, and a quarter of it nothing.
const pageSize = 16 << 10

// limitLog sets how the writer keeps what it changes.
func (s *Store) limitLog() error {
	const most = 256 << 20 // bytes of the write-ahead log, where move does not keep up
	size := int64(pageSize)
	err := run(s.writer, "PRAGMA page_size", func(stmt *sqlite.Stmt) error { size = stmt.ColumnInt64(0); return nil })
	if err != nil {
		return err
	}
	return pragmas(s.writer,
		"cache_size=-65536", // what a large batch changes is written once
		fmt.Sprintf("wal_autocheckpoint=%d", most/size), fmt.Sprintf("journal_size_limit=%d", most),
	)
}

// moveEvery is how often what was committed moves from the write-ahead log into
// the database, at most.
const moveEvery = 2 * time.Second

// move moves what was committed into the database. It waits for the disk twice
// and writes to places all over the file; whoever commits need not wait for that,
// and pages that were changed several times are written once. The commits are on
// the disk already.
func (s *Store) move() {
	defer close(s.moved)
	for {
		select {
		case <-s.closing:
			return
		case <-s.committed:
		}
		// Where it fails, as on a full disk, the log keeps what it has, and the
		// next one moves it.
		_ = sqlitex.ExecuteTransient(s.mover, "PRAGMA wal_checkpoint(PASSIVE)", nil)
		select {
		case <-s.closing:
			return
		case <-time.After(moveEvery):
		}
	}
}

func prepare(conn *sqlite.Conn) error {
	conn.SetBlockOnBusy() // until the context of the call ends
	return pragmas(conn,
		"synchronous=FULL", // a commit is on the disk before it is acknowledged
		"cache_size=-16384",
		"temp_store=MEMORY",
	)
}

func pragmas(conn *sqlite.Conn, list ...string) error {
	for _, pragma := range list {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, nil); err != nil {
			return err
		}
	}
	return nil
}

// Close implements resolver.Store.
func (s *Store) Close() error {
	s.writing <- struct{}{} // for good: who comes later waits until the context ends
	close(s.closing)
	<-s.moved
	return errors.Join(s.readers.Close(), s.mover.Close(), s.writer.Close())
}

// Path is where the database lies.
func (s *Store) Path() string { return s.path }

// read runs f with a connection that sees one state of the database.
func (s *Store) read(ctx context.Context, f func(*sqlite.Conn) error) (err error) {
	conn, err := s.readers.Take(ctx)
	if err != nil {
		return err
	}
	defer s.readers.Put(conn)
	return interrupted(ctx, f(conn))
}

// interrupted gives what a context that ended has interrupted that reason: a caller
// can tell it from trouble with the database.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && sqlite.ErrCode(err) == sqlite.ResultInterrupt {
		return ctx.Err()
	}
	return err
}

// snapshot is read for several statements that must agree.
func (s *Store) snapshot(ctx context.Context, f func(*sqlite.Conn) error) error {
	return s.read(ctx, func(conn *sqlite.Conn) (err error) {
		end := sqlitex.Transaction(conn)
		defer end(&err)
		return f(conn)
	})
}

// write runs f in a transaction, all or nothing.
func (s *Store) write(ctx context.Context, f func(*sqlite.Conn) error) (err error) {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	s.writer.SetInterrupt(ctx.Done())
	defer s.writer.SetInterrupt(nil)
	defer func() { // after the end of the transaction, which may find the disk full
		if err = interrupted(ctx, full(err)); err == nil {
			select {
			case s.committed <- struct{}{}:
			default: // it is told already
			}
		}
	}()
	end, err := sqlitex.ImmediateTransaction(s.writer)
	if err != nil {
		return err
	}
	defer end(&err)
	return f(s.writer)
}

// full says of an error what it means when it means that there is no room.
func full(err error) error {
	switch sqlite.ErrCode(err) {
	case sqlite.ResultFull, sqlite.ResultIOErrSHMSize:
		return fmt.Errorf("%w: %w", resolver.ErrFull, err)
	}
	return err
}

// run executes one statement. Arguments are bound in order; row is called for
// every row.
func run(conn *sqlite.Conn, query string, row func(*sqlite.Stmt) error, args ...any) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	defer func() {
		_ = stmt.Reset() // repeats the error of Step
		_ = stmt.ClearBindings()
	}()
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			stmt.BindText(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		case resolver.Digest:
			stmt.BindBytes(i+1, v[:])
		case int:
			stmt.BindInt64(i+1, int64(v))
		case int64:
			stmt.BindInt64(i+1, v)
		case bool:
			stmt.BindBool(i+1, v)
		case time.Time:
			stmt.BindInt64(i+1, v.Unix())
		default:
			panic(fmt.Sprintf("cannot bind %T", arg))
		}
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if row != nil {
			if err := row(stmt); err != nil {
				return err
			}
		}
	}
}

func blob(stmt *sqlite.Stmt, col int) []byte {
	data := make([]byte, stmt.ColumnLen(col))
	stmt.ColumnBytes(col, data)
	return data
}

func digest(stmt *sqlite.Stmt, col int) (d resolver.Digest) {
	stmt.ColumnBytes(col, d[:])
	return d
}

func unix(stmt *sqlite.Stmt, col int) time.Time {
	if n := stmt.ColumnInt64(col); n != never {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}

var never = time.Time{}.Unix()

const recordColumns = `suffix, number, revision, digest, size, events, state, united, event_count, replications, aliases, source, title, authors, categories, abstract, submitted, built_at`

// No query here joins tables with a bound value in hand: SQLite would plan it
// anew for each value, which takes longer than the query. It is also plain what
// comes first.
const bundleColumn = `, (SELECT gzip FROM bundle WHERE bundle.id = record.id)`

func readRecord(stmt *sqlite.Stmt) (r resolver.Record, err error) {
	r = resolver.Record{
		Suffix: stmt.ColumnText(0), Number: stmt.ColumnText(1), Revision: stmt.ColumnInt64(2), Digest: digest(stmt, 3), Size: stmt.ColumnInt(4),
		Events: digest(stmt, 5), State: digest(stmt, 6), United: stmt.ColumnBool(7), EventCount: stmt.ColumnInt(8), Replications: stmt.ColumnInt(9),
		Source: stmt.ColumnText(11), Title: stmt.ColumnText(12), Authors: stmt.ColumnText(13), Abstract: stmt.ColumnText(15),
		Submitted: unix(stmt, 16), BuiltAt: unix(stmt, 17),
	}
	return r, errors.Join(unlist(stmt.ColumnText(10), &r.Aliases), unlist(stmt.ColumnText(14), &r.Categories))
}

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

// eventID is an event id as a column: ids that are digests take 32 bytes.
func eventID(id string) any {
	if sum, ok := strings.CutPrefix(id, "sha256:"); ok {
		if d, err := resolver.ParseDigest(sum); err == nil {
			return d[:]
		}
	}
	return id
}

func readEventID(stmt *sqlite.Stmt, col int) string {
	if stmt.ColumnType(col) == sqlite.TypeBlob {
		return "sha256:" + hex.EncodeToString(blob(stmt, col))
	}
	return stmt.ColumnText(col)
}

// Commit implements resolver.Store.
func (s *Store) Commit(ctx context.Context, updates []resolver.Update) (out []resolver.Committed, err error) {
	texts := make([][]any, len(updates)) // cut into words before others have to wait
	for i := range updates {
		for _, text := range updates[i].SearchTexts() {
			texts[i] = append(texts[i], words(text))
		}
	}
	err = s.write(ctx, func(conn *sqlite.Conn) error {
		out, err = commit(conn, updates, texts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func commit(conn *sqlite.Conn, updates []resolver.Update, texts [][]any) ([]resolver.Committed, error) {
	count, err := counts(conn)
	if err != nil {
		return nil, err
	}
	out := make([]resolver.Committed, len(updates))
	keys := map[string]bool{} // most records share theirs
	for i := range updates {
		u := &updates[i]
		count.Revision++
		out[i] = resolver.Committed{Revision: count.Revision, FirstSeq: count.Events}
		id, err := putRecord(conn, u, texts[i], count.Revision)
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", u.Suffix, err)
		}
		seqs := map[string]int64{}
		for _, e := range u.Events {
			if e.Suffix != u.Suffix {
				return nil, fmt.Errorf("event %s is of %s, not of %s", e.ID, e.Suffix, u.Suffix)
			}
			err := run(conn, `INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, nil,
				count.Events, eventID(e.ID), id, e.SHA256, e.Type, e.SignerID, e.Fingerprint, e.CreatedAt, e.ReceivedAt, e.Invalid)
			if err == nil {
				err = run(conn, `INSERT INTO event_id(rowid, term) VALUES (?, ?)`, nil, count.Events, term(eventID(e.ID)))
			}
			if err != nil {
				return nil, fmt.Errorf("event %s of %s: %w", e.ID, u.Suffix, err)
			}
			if e.Invalid == "" { // an invalid one may claim any id
				seqs[e.ID] = count.Events
			}
			count.Events++
		}
		for _, c := range u.Cites {
			if seq, fresh := seqs[c.EventID]; fresh {
				c.Seq = seq
			}
			err := run(conn, `INSERT INTO citation VALUES (?, ?, ?, ?, ?, ?)`, nil, c.Kind, c.ID, c.Seq, id, c.EventID, c.Relation)
			if err != nil {
				return nil, fmt.Errorf("citation %s: %w", c.EventID, err)
			}
		}
		for _, k := range u.Keys {
			if keys[k.Fingerprint] {
				continue
			}
			keys[k.Fingerprint] = true
			if err := run(conn, `UPDATE key SET used = 1 WHERE fingerprint = ? AND used = 0`, nil, k.Fingerprint); err != nil {
				return nil, err
			}
			if err := putKey(conn, k, true, &count); err != nil {
				return nil, err
			}
		}
		if u.Base == 0 {
			count.Records++
		}
	}
	return out, setCounts(conn, count)
}

func putRecord(conn *sqlite.Conn, u *resolver.Update, texts []any, revision int64) (id int64, err error) {
	var have int64
	var old []resolver.Alias
	err = run(conn, `SELECT id, revision, aliases FROM record WHERE suffix = ?`, func(stmt *sqlite.Stmt) error {
		id, have = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		return unlist(stmt.ColumnText(2), &old)
	}, u.Suffix)
	if err != nil {
		return 0, err
	}
	if have != u.Base {
		return 0, resolver.ErrConflict
	}
	r := &u.Record
	row := []any{
		u.Suffix, r.Number, revision, r.Digest, r.Size, r.Events, r.State, r.United, r.EventCount, r.Replications,
		list(r.Aliases), r.Source, r.Title, r.Authors, list(r.Categories), r.Abstract, r.Submitted, r.BuiltAt,
	}
	if have == 0 {
		if err := run(conn, `INSERT INTO record (`+recordColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, nil, row...); err != nil {
			return 0, err
		}
		id = conn.LastInsertRowID()
	} else {
		for _, a := range old {
			a = resolver.FoldAlias(a.Kind, a.Value)
			if err := run(conn, `DELETE FROM alias WHERE kind = ? AND value = ? AND record = ?`, nil, a.Kind, a.Value, id); err != nil {
				return 0, err
			}
		}
		if err := run(conn, `DELETE FROM search WHERE rowid = ?`, nil, id); err != nil {
			return 0, err
		}
		err := run(conn, `UPDATE record SET (`+recordColumns+`) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ?`, nil, append(row, id)...)
		if err != nil {
			return 0, err
		}
	}
	if err := run(conn, `INSERT INTO record_digest(rowid, term) VALUES (?, ?)`, nil, revision, term(r.Digest[:])); err != nil {
		return 0, err
	}
	if err := run(conn, `INSERT OR REPLACE INTO bundle VALUES (?, ?)`, nil, id, u.Bundle); err != nil {
		return 0, err
	}
	for _, a := range r.Aliases {
		a = resolver.FoldAlias(a.Kind, a.Value)
		if err := run(conn, `INSERT OR IGNORE INTO alias VALUES (?, ?, ?)`, nil, a.Kind, a.Value, id); err != nil {
			return 0, err
		}
	}
	return id, run(conn, `INSERT INTO search(rowid, title, authors, categories, abstract) VALUES (?, ?, ?, ?, ?)`, nil, append([]any{id}, texts...)...)
}

func counts(conn *sqlite.Conn) (c resolver.Counts, err error) {
	err = run(conn, `SELECT records, events, keys, refused, queued, revision FROM counts`, func(stmt *sqlite.Stmt) error {
		c = resolver.Counts{
			Records: stmt.ColumnInt64(0), Events: stmt.ColumnInt64(1), Keys: stmt.ColumnInt64(2),
			Refused: stmt.ColumnInt64(3), Queued: stmt.ColumnInt64(4), Revision: stmt.ColumnInt64(5),
		}
		return nil
	})
	return c, err
}

func setCounts(conn *sqlite.Conn, c resolver.Counts) error {
	return run(conn, `UPDATE counts SET (records, events, keys, refused, queued, revision) = (?, ?, ?, ?, ?, ?)`, nil,
		c.Records, c.Events, c.Keys, c.Refused, c.Queued, c.Revision)
}

// Counts implements resolver.Store.
func (s *Store) Counts(ctx context.Context) (c resolver.Counts, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		c, err = counts(conn)
		return err
	})
	return c, err
}

// one is read for a query of at most one row.
func (s *Store) one(ctx context.Context, query string, row func(*sqlite.Stmt) error, args ...any) error {
	found := false
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		return run(conn, query, func(stmt *sqlite.Stmt) error { found = true; return row(stmt) }, args...)
	})
	if err == nil && !found {
		return resolver.ErrNotFound
	}
	return err
}

// many is read for a query of any number of rows.
func many[T any](ctx context.Context, s *Store, row func(*sqlite.Stmt) (T, error), query string, args ...any) (out []T, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return run(conn, query, func(stmt *sqlite.Stmt) error {
			v, err := row(stmt)
			out = append(out, v)
			return err
		}, args...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func readText(stmt *sqlite.Stmt) (string, error) { return stmt.ColumnText(0), nil }

// Record implements resolver.Store.
func (s *Store) Record(ctx context.Context, suffix string) (r resolver.Record, err error) {
	err = s.one(ctx, `SELECT `+recordColumns+` FROM record WHERE suffix = ?`, func(stmt *sqlite.Stmt) error {
		r, err = readRecord(stmt)
		return err
	}, suffix)
	return r, err
}

// Bundle implements resolver.Store.
func (s *Store) Bundle(ctx context.Context, suffix string) (r resolver.Record, bundle []byte, err error) {
	err = s.one(ctx, `SELECT `+recordColumns+bundleColumn+` FROM record WHERE suffix = ?`, func(stmt *sqlite.Stmt) error {
		bundle = blob(stmt, 18)
		r, err = readRecord(stmt)
		return err
	}, suffix)
	return r, bundle, err
}

// Bundles implements resolver.Store.
func (s *Store) Bundles(ctx context.Context, suffixes []string) ([]resolver.Stored, error) {
	return many(ctx, s, func(stmt *sqlite.Stmt) (resolver.Stored, error) {
		r, err := readRecord(stmt)
		return resolver.Stored{Record: r, Bundle: blob(stmt, 18)}, err
	}, `SELECT `+recordColumns+bundleColumn+` FROM record WHERE suffix IN (SELECT value FROM json_each(?))`, list(suffixes))
}

// Resolve implements resolver.Store.
func (s *Store) Resolve(ctx context.Context, prefix string, limit int) ([]string, error) {
	return many(ctx, s, readText, `SELECT suffix FROM record WHERE suffix >= ? AND suffix < ? ORDER BY suffix LIMIT ?`, prefix, prefix+"\x7f", limit)
}

// ByAlias implements resolver.Store.
func (s *Store) ByAlias(ctx context.Context, kind, value string, limit int) ([]string, error) {
	return many(ctx, s, readText, `SELECT (SELECT suffix FROM record WHERE id = alias.record) AS suffix FROM alias WHERE kind = ? AND value = ? ORDER BY 1 LIMIT ?`, kind, value, limit)
}

// ByDigest implements resolver.Store.
func (s *Store) ByDigest(ctx context.Context, digest resolver.Digest) (suffix string, err error) {
	err = s.one(ctx, `SELECT suffix FROM record WHERE revision IN (SELECT rowid FROM record_digest WHERE record_digest MATCH ?) AND digest = ? LIMIT 1`, func(stmt *sqlite.Stmt) error {
		suffix = stmt.ColumnText(0)
		return nil
	}, term(digest[:]), digest)
	return suffix, err
}

// Search implements resolver.Store.
func (s *Store) Search(ctx context.Context, query string, limit, offset int) (found []resolver.Record, total int, err error) {
	words := resolver.QueryWords(query)
	if len(words) == 0 {
		return nil, 0, nil
	}
	match := `"` + strings.Join(words, `"* AND "`) + `"*` // words are letters, digits and marks
	err = s.snapshot(ctx, func(conn *sqlite.Conn) error {
		err := run(conn, `SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ? LIMIT ?)`, func(stmt *sqlite.Stmt) error {
			total = stmt.ColumnInt(0)
			return nil
		}, match, resolver.MaxCounted)
		if err != nil || total <= offset {
			return err
		}
		// To weigh every match of a word that is everywhere would take seconds.
		order := `rank`
		if total >= resolver.MaxCounted {
			order = `rowid DESC`
		}
		return run(conn, `SELECT `+recordColumns+` FROM (SELECT rowid AS found FROM search WHERE search MATCH ? ORDER BY `+order+` LIMIT ? OFFSET ?) JOIN record ON record.id = found`,
			func(stmt *sqlite.Stmt) error {
				r, err := readRecord(stmt)
				found = append(found, r)
				return err
			}, match, limit, max(offset, 0))
	})
	return found, total, err
}

// Records implements resolver.Store.
func (s *Store) Records(ctx context.Context, prefix, after string, limit int) ([]resolver.Record, error) {
	return many(ctx, s, readRecord, `SELECT `+recordColumns+` FROM record WHERE suffix > ? AND suffix >= ? AND suffix < ? ORDER BY suffix LIMIT ?`,
		after, prefix, prefix+"\x7f", limit)
}

// ChangedAfter implements resolver.Store.
func (s *Store) ChangedAfter(ctx context.Context, revision int64, limit int) ([]resolver.Record, error) {
	return many(ctx, s, readRecord, `SELECT `+recordColumns+` FROM record WHERE revision > ? ORDER BY revision LIMIT ?`, revision, limit)
}

// Fingerprints implements resolver.Store.
func (s *Store) Fingerprints(ctx context.Context, prefix string, yield func(resolver.Fingerprint) error) error {
	return s.read(ctx, func(conn *sqlite.Conn) error {
		return run(conn, `SELECT suffix, events, state FROM record WHERE suffix >= ? AND suffix < ? ORDER BY suffix`, func(stmt *sqlite.Stmt) error {
			return yield(resolver.Fingerprint{Suffix: stmt.ColumnText(0), Events: digest(stmt, 1), State: digest(stmt, 2)})
		}, prefix, prefix+"\x7f")
	})
}

func readEvent(stmt *sqlite.Stmt) (resolver.Event, error) {
	return resolver.Event{
		Seq: stmt.ColumnInt64(0), ID: readEventID(stmt, 1), Suffix: stmt.ColumnText(2), SHA256: digest(stmt, 3), Type: stmt.ColumnText(4),
		SignerID: stmt.ColumnText(5), Fingerprint: stmt.ColumnText(6), CreatedAt: unix(stmt, 7), ReceivedAt: unix(stmt, 8), Invalid: stmt.ColumnText(9),
	}, nil
}

// An event whose record is gone is a gap that a reader must see.
const fromEvents = `SELECT seq, event_id, coalesce((SELECT suffix FROM record WHERE id = event.record), '') AS suffix, sha256, type, signer_id, fingerprint, created_at, received_at, invalid FROM event `

// EventsFrom implements resolver.Store.
func (s *Store) EventsFrom(ctx context.Context, seq int64, limit int) ([]resolver.Event, error) {
	return many(ctx, s, readEvent, fromEvents+`WHERE seq >= ? ORDER BY seq LIMIT ?`, seq, limit)
}

// RecentEvents implements resolver.Store.
func (s *Store) RecentEvents(ctx context.Context, before int64, limit int) ([]resolver.Event, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return many(ctx, s, readEvent, fromEvents+`WHERE seq < ? ORDER BY seq DESC LIMIT ?`, before, limit)
}

// RecordEvents implements resolver.Store.
func (s *Store) RecordEvents(ctx context.Context, suffix string) ([]resolver.Event, error) {
	return many(ctx, s, readEvent, fromEvents+`WHERE event.record = (SELECT id FROM record WHERE suffix = ?) ORDER BY seq`, suffix)
}

// Event implements resolver.Store.
func (s *Store) Event(ctx context.Context, id string) (e resolver.Event, err error) {
	column := eventID(id)
	err = s.one(ctx, fromEvents+`WHERE seq IN (SELECT rowid FROM event_id WHERE event_id MATCH ?) AND event_id = ? ORDER BY invalid <> '', seq LIMIT 1`, func(stmt *sqlite.Stmt) error {
		e, err = readEvent(stmt)
		return err
	}, term(column), column)
	return e, err
}

// Citations implements resolver.Store.
func (s *Store) Citations(ctx context.Context, kind, id string, limit int) ([]resolver.Citation, error) {
	return many(ctx, s, func(stmt *sqlite.Stmt) (resolver.Citation, error) {
		return resolver.Citation{
			Kind: stmt.ColumnText(0), ID: stmt.ColumnText(1), Suffix: stmt.ColumnText(2), EventID: stmt.ColumnText(3), Relation: stmt.ColumnText(4), Seq: stmt.ColumnInt64(5),
		}, nil
	}, `SELECT kind, id, (SELECT suffix FROM record WHERE record.id = citation.record), event_id, relation, seq FROM citation WHERE kind = ? AND id = ? ORDER BY seq LIMIT ?`, kind, id, limit)
}

func readKey(stmt *sqlite.Stmt) (resolver.Key, error) {
	return resolver.Key{Fingerprint: stmt.ColumnText(0), SignerID: stmt.ColumnText(1), Entry: blob(stmt, 2), DeclaredAt: unix(stmt, 3)}, nil
}

// Key implements resolver.Store.
func (s *Store) Key(ctx context.Context, fingerprint string) (k resolver.Key, err error) {
	err = s.one(ctx, `SELECT fingerprint, signer_id, entry, declared_at FROM key WHERE fingerprint = ?`, func(stmt *sqlite.Stmt) error {
		k, err = readKey(stmt)
		return err
	}, fingerprint)
	return k, err
}

// PutKey implements resolver.Store.
func (s *Store) PutKey(ctx context.Context, key resolver.Key, forget time.Time) error {
	return s.write(ctx, func(conn *sqlite.Conn) error {
		count, err := counts(conn)
		if err != nil {
			return err
		}
		err = run(conn, `DELETE FROM key WHERE used = 0 AND declared_at < ? AND fingerprint NOT IN (SELECT signer FROM held WHERE status = 'queued')`, nil, forget)
		if err != nil {
			return err
		}
		count.Keys -= int64(conn.Changes())
		err = run(conn, `UPDATE key SET declared_at = ? WHERE fingerprint = ? AND used = 0`, nil, key.DeclaredAt, key.Fingerprint)
		if err == nil {
			err = putKey(conn, key, false, &count)
		}
		if err != nil {
			return err
		}
		return setCounts(conn, count)
	})
}

// putKey adds a key, unless it is there.
func putKey(conn *sqlite.Conn, k resolver.Key, used bool, count *resolver.Counts) error {
	err := run(conn, `INSERT OR IGNORE INTO key (fingerprint, signer_id, entry, declared_at, used) VALUES (?, ?, ?, ?, ?)`, nil, k.Fingerprint, k.SignerID, k.Entry, k.DeclaredAt, used)
	if err != nil {
		return fmt.Errorf("key %s: %w", k.Fingerprint, err)
	}
	count.Keys += int64(conn.Changes())
	return nil
}

// Keys implements resolver.Store.
func (s *Store) Keys(ctx context.Context, after string, limit int) ([]resolver.Key, error) {
	return many(ctx, s, readKey, `SELECT fingerprint, signer_id, entry, declared_at FROM key WHERE fingerprint > ? ORDER BY fingerprint LIMIT ?`, after, limit)
}

// Of rows of before there were two digests both are one.
const heldColumns = `id, status, digest, coalesce(sha256, digest), suffix, code, detail, signer, sender, received_at, data, truncated`

func readHeld(stmt *sqlite.Stmt) (resolver.Held, error) {
	return resolver.Held{
		ID: stmt.ColumnInt64(0), Status: resolver.Status(stmt.ColumnText(1)), Digest: digest(stmt, 2), SHA256: digest(stmt, 3), Suffix: stmt.ColumnText(4), Code: stmt.ColumnText(5),
		Detail: stmt.ColumnText(6), Signer: stmt.ColumnText(7), From: stmt.ColumnText(8), ReceivedAt: unix(stmt, 9), Data: blob(stmt, 10), Truncated: stmt.ColumnBool(11),
	}, nil
}

// moveHeld counts a submission that was held as one status and is held as another now.
func moveHeld(conn *sqlite.Conn, from, to resolver.Status) error {
	count, err := counts(conn)
	if err != nil {
		return err
	}
	count.MoveHeld(from, to)
	return setCounts(conn, count)
}

// findHeld is the submission with a digest, else the first one with such bytes; of rows
// of before there were two digests both are one.
const findHeld = `SELECT ` + heldColumns + ` FROM held WHERE id = coalesce((SELECT id FROM held WHERE digest = ?1), (SELECT min(id) FROM held WHERE sha256 = ?2), (SELECT id FROM held WHERE digest = ?2 AND sha256 IS NULL))`

// PutHeld implements resolver.Store.
func (s *Store) PutHeld(ctx context.Context, h resolver.Held) (id int64, now resolver.Status, err error) {
	err = s.write(ctx, func(conn *sqlite.Conn) error {
		var old resolver.Held
		err := run(conn, findHeld, func(stmt *sqlite.Stmt) (err error) {
			old, err = readHeld(stmt)
			return err
		}, h.Digest, h.SHA256)
		if err != nil {
			return err
		}
		if old.ID == 0 {
			err = run(conn, `INSERT INTO held (status, digest, sha256, suffix, code, detail, signer, sender, received_at, data, truncated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, nil,
				string(h.Status), h.Digest, h.SHA256, h.Suffix, h.Code, h.Detail, h.Signer, h.From, h.ReceivedAt, h.Data, h.Truncated)
			id, now = conn.LastInsertRowID(), h.Status
		} else {
			h = old.Put(h)
			err = run(conn, `UPDATE held SET status = ?, digest = ?, sha256 = ?, suffix = ?, code = ?, detail = ?, signer = ?, sender = ?, received_at = ?, data = ?, truncated = ? WHERE id = ?`, nil,
				string(h.Status), h.Digest, h.SHA256, h.Suffix, h.Code, h.Detail, h.Signer, h.From, h.ReceivedAt, h.Data, h.Truncated, old.ID)
			id, now = old.ID, h.Status
		}
		if err != nil || old.Status == now {
			return err
		}
		return moveHeld(conn, old.Status, now)
	})
	return id, now, err
}

// FindHeld implements resolver.Store.
func (s *Store) FindHeld(ctx context.Context, digest resolver.Digest) (id int64, now resolver.Status, err error) {
	err = s.one(ctx, strings.Replace(findHeld, "data", "x''", 1), func(stmt *sqlite.Stmt) error {
		id, now = stmt.ColumnInt64(0), resolver.Status(stmt.ColumnText(1))
		return nil
	}, digest, digest)
	return id, now, err
}

// Held implements resolver.Store.
func (s *Store) Held(ctx context.Context, status resolver.Status, after int64, limit int) ([]resolver.Held, error) {
	return many(ctx, s, func(stmt *sqlite.Stmt) (resolver.Held, error) {
		h, err := readHeld(stmt)
		h.Data = nil
		return h, err
	}, `SELECT `+strings.Replace(heldColumns, "data", "x''", 1)+` FROM held WHERE status = ? AND id > ? ORDER BY id LIMIT ?`, string(status), after, limit)
}

// HeldByID implements resolver.Store.
func (s *Store) HeldByID(ctx context.Context, id int64) (h resolver.Held, err error) {
	err = s.one(ctx, `SELECT `+heldColumns+` FROM held WHERE id = ?`, func(stmt *sqlite.Stmt) error {
		h, err = readHeld(stmt)
		return err
	}, id)
	return h, err
}

// MoveHeld implements resolver.Store.
func (s *Store) MoveHeld(ctx context.Context, id int64, from, to resolver.Status, code, detail string) error {
	return s.write(ctx, func(conn *sqlite.Conn) error {
		err := run(conn, `UPDATE held SET status = ?, code = ?, detail = ? WHERE id = ? AND status = ?`, nil, string(to), code, detail, id, string(from))
		if err != nil {
			return err
		}
		if conn.Changes() == 0 {
			return resolver.ErrNotFound
		}
		return moveHeld(conn, from, to)
	})
}

// Meta implements resolver.Store.
func (s *Store) Meta(ctx context.Context, key string) (value []byte, err error) {
	err = s.one(ctx, `SELECT value FROM meta WHERE key = ?`, func(stmt *sqlite.Stmt) error {
		value = blob(stmt, 0)
		return nil
	}, key)
	return value, err
}

// SetMeta implements resolver.Store.
func (s *Store) SetMeta(ctx context.Context, key string, value []byte) error {
	return s.write(ctx, func(conn *sqlite.Conn) error {
		if value == nil {
			return run(conn, `DELETE FROM meta WHERE key = ?`, nil, key)
		}
		return run(conn, `INSERT OR REPLACE INTO meta VALUES (?, ?)`, nil, key, value)
	})
}

// MetaKeys implements resolver.Store.
func (s *Store) MetaKeys(ctx context.Context, prefix string) ([]string, error) {
	return many(ctx, s, readText, `SELECT key FROM meta WHERE substr(key, 1, ?) = ? ORDER BY key`, len([]rune(prefix)), prefix)
}

// Lock implements resolver.Store: within the process by a channel, between
// processes by a lock on a file beside the database.
func (s *Store) Lock(ctx context.Context, name string, f func(context.Context) error) (err error) {
	s.mu.Lock()
	lock := s.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-lock }()
	file := flock.New(s.path + "." + url.PathEscape(name) + ".lock")
	if _, err := file.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return f(ctx)
}

// Backup writes a copy of the database as it is now to a new file, which is whole
// and on the disk when it has its name, and which only its owner may read.
func (s *Store) Backup(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	part := path + ".part" // of an attempt that was killed, perhaps
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := s.backup(ctx, part)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *Store) backup(ctx context.Context, part string) error {
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// SQLite writes into an empty file, and does not wait for the disk.
	err = s.read(ctx, func(conn *sqlite.Conn) error { return run(conn, `VACUUM INTO ?`, nil, part) })
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(full(err), file.Close())
}
