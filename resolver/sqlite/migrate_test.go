package sqlite

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/storetest"
)

var write = flag.Bool("write", false, "write the database of the newest schema to testdata, if it is not there")

// fixture is a database of a schema that was published, as SQL.
func fixture(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("schema%d.sql", version))
}

// A database of every schema that was published becomes one of today, and holds
// what it held. After a new step in schema run
//
//	go test ./resolver/sqlite -run TestMigrate -write
//
// once, and keep the file that it writes: it is never written again.
func TestMigrate(t *testing.T) {
	newest := len(schema.Migrations)
	if _, err := os.Stat(fixture(newest)); *write && errors.Is(err, os.ErrNotExist) {
		for version := 1; version <= newest; version++ {
			if _, err := os.Stat(fixture(version)); err == nil {
				continue
			}
			if err := os.WriteFile(fixture(version), []byte(dump(t, version)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	fresh := tables(t, open(t, filepath.Join(t.TempDir(), "fresh.db")))
	for version := 1; version <= newest; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			s := open(t, made(t, version, ""))
			if got := tables(t, s); got != fresh {
				t.Errorf("its tables are\n%s\nthose of a new database\n%s", got, fresh)
			}
			storetest.Filled(t, s)
		})
	}
}

// Categories whose JSON was indexed instead of themselves are found after a step
// of the schema.
func TestMigrateCategories(t *testing.T) {
	path := made(t, 3, `
UPDATE record SET categories = '["q\u0026bio","x\"y"]';
DELETE FROM search;
INSERT INTO search(rowid, title, authors, categories, abstract) SELECT id, pith_words(title), pith_words(authors), pith_words(categories), pith_words(abstract) FROM record;
`)
	s := open(t, path)
	for query, want := range map[string]int{"q&bio": 1, "bio x y smoothout": 1, "u0026bio": 0} {
		if _, total, err := s.Search(t.Context(), query, 10, 0); err != nil || total != want {
			t.Errorf("search %q finds %d, want %d: %v", query, total, want, err)
		}
	}
	if err := s.Check(t.Context(), func(p resolver.Problem) { t.Error(p) }); err != nil {
		t.Error(err)
	}
}

// A record that was changed, so that its revision is not the number of its row, is
// found by its digest after a step of the schema.
func TestMigrateDigests(t *testing.T) {
	path := made(t, 5, `UPDATE record SET revision = 7; UPDATE counter SET revision = 7;`)
	s := open(t, path)
	all, err := s.Records(t.Context(), "", "", 9)
	if err != nil || len(all) != 1 || all[0].Revision != 7 {
		t.Fatalf("records: %v, %v", all, err)
	}
	if suffix, err := s.ByDigest(t.Context(), all[0].Digest); err != nil || suffix != all[0].Suffix {
		t.Errorf("by digest: %q, %v", suffix, err)
	}
	if err := s.Check(t.Context(), func(p resolver.Problem) { t.Error(p) }); err != nil {
		t.Error(err)
	}
}

// A process of a program that does not know the indexes of step 6 has its commits
// refused, if it has the file open when the step is made: it would leave them behind.
func TestMigrateBesideAnOlderProgram(t *testing.T) {
	path := made(t, 5, "")
	old, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	const first = `SELECT records, events, keys, refused, queued, revision FROM counter` // what a commit begins with
	if err := run(old, first, nil); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if err := run(old, first, nil); err == nil {
		t.Error("an older program goes on writing")
	}
}

// What waits in a database of before step 7 is known when its bytes come again, which
// wait for more than that by now.
func TestMigrateQueue(t *testing.T) {
	ctx, day := t.Context(), time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	key := func(name string) *pith.PrivateKey {
		k, err := pith.NewKey([]byte(strings.Repeat(name, 32))[:32], pith.Signer{ID: name, Type: "individual", KeyID: name + "-1"})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	bundle, _, err := pith.Append(seed.Bundle(), key("bob"), day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	path := made(t, 6, fmt.Sprintf(`
DELETE FROM held;
INSERT INTO held (status, digest, suffix, code, detail, signer, sender, received_at, data, truncated) VALUES ('queued', x'%x', 'CWPYLZDW7AWAX7TQ5ZRNS3OHEM', 'trust_key', '', '', 'x', 0, x'%x', 0);
UPDATE counts SET queued = 1, refused = 0;
DELETE FROM record; DELETE FROM bundle; DELETE FROM alias; DELETE FROM event; DELETE FROM citation; DELETE FROM search; DELETE FROM key;
UPDATE counts SET records = 0, events = 0, keys = 0, revision = 0;
`, sha256.Sum256(bundle), resolver.Gzip(bundle)))
	s := open(t, path)
	service, err := resolver.NewService(resolver.Config{Store: s, Key: key("mirror"), Trust: pith.PinnedTrust()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = service.Submit(ctx, resolver.Submission{Data: bundle, From: "x"})
	var refusal *resolver.Refusal
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	held, err := s.Held(ctx, resolver.Queued, 0, 10)
	if err != nil || len(held) != 1 || held[0].ID != refusal.ID || held[0].Digest == held[0].SHA256 {
		t.Fatalf("%+v %v", held, err)
	}
	if _, err := service.Accept(ctx, refusal.ID); err != nil {
		t.Error(err)
	}
	if err := resolver.Fsck(ctx, s, func(p resolver.Problem) { t.Error(p) }, nil); err != nil {
		t.Error(err)
	}
}

// A database that a newer program made is left alone.
func TestNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pith.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	script(t, path, fmt.Sprintf("PRAGMA user_version = %d;", len(schema.Migrations)+1))
	if _, err := Open(t.Context(), path); !errors.Is(err, resolver.ErrNewer) {
		t.Errorf("opened with %v", err)
	}
}

// What is no database of ours is left as it is, down to the last byte.
func TestForeign(t *testing.T) {
	for name, make := range map[string]func(path string){
		"database": func(path string) { // in another journal mode than ours
			conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
			if err == nil {
				err = errors.Join(sqlitex.ExecuteScript(conn, "CREATE TABLE a (x);", nil), conn.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"marked": func(path string) { script(t, path, "PRAGMA application_id = 7;") },
		"text": func(path string) {
			if err := os.WriteFile(path, []byte("some text that is no database, and long enough to have a header, if it were one: ......................."), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		path := filepath.Join(t.TempDir(), name)
		make(path)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path); !errors.Is(err, resolver.ErrForeign) {
			t.Errorf("%s: opened with %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: it was changed, %v", name, err)
		}
	}
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// made is the file of a database of a schema that was published, after some more SQL.
func made(t *testing.T, version int, more string) string {
	t.Helper()
	text, err := os.ReadFile(fixture(version))
	if err != nil {
		t.Fatalf("no database of this schema is kept: %v", err)
	}
	path := filepath.Join(t.TempDir(), "pith.db")
	script(t, path, string(text)+more)
	return path
}

// script runs SQL on a file, which may be new.
func script(t *testing.T, path, text string) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := register(conn); err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(conn, text, nil); err != nil {
		t.Fatal(err)
	}
}

// tables is what SQLite knows of the schema of a store.
func tables(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	err := s.read(t.Context(), func(conn *sqlite.Conn) error {
		return run(conn, `SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name`, func(stmt *sqlite.Stmt) error {
			fmt.Fprintln(&b, stmt.ColumnText(0), stmt.ColumnText(1), stmt.ColumnText(2))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// dump is a database of a version with the sample in it, as SQL.
func dump(t *testing.T, version int) string {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "dump.db"))
	storetest.Fill(t, s)
	var b strings.Builder
	for _, step := range schema.Migrations[:version] {
		b.WriteString(strings.TrimSpace(step) + "\n")
	}
	b.WriteString("DELETE FROM counts;\n")
	err := s.read(t.Context(), func(conn *sqlite.Conn) error {
		for _, table := range []string{"record", "bundle", "alias", "event", "citation", "key", "held", "meta", "counts"} {
			var columns []string
			err := run(conn, `SELECT name FROM pragma_table_info('`+table+`')`, func(stmt *sqlite.Stmt) error {
				columns = append(columns, "quote("+stmt.ColumnText(0)+")")
				return nil
			})
			if err != nil {
				return err
			}
			err = run(conn, `SELECT concat_ws(', ', `+strings.Join(columns, ", ")+`) FROM `+table, func(stmt *sqlite.Stmt) error {
				fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, stmt.ColumnText(0))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	switch { // what the index of words was given
	case version >= 3:
		b.WriteString("INSERT INTO search(rowid, title, authors, categories, abstract) SELECT id, pith_words(title), pith_words(authors), pith_words(categories), pith_words(abstract) FROM record;\n")
	case version == 2:
		b.WriteString("INSERT INTO search(rowid, title, authors, categories, abstract) SELECT id, title, authors, categories, abstract FROM record;\n")
	}
	if version >= 6 {
		b.WriteString("INSERT INTO record_digest(rowid, term) SELECT revision, pith_term(digest) FROM record ORDER BY revision;\n")
		b.WriteString("INSERT INTO event_id(rowid, term) SELECT seq, pith_term(event_id) FROM event ORDER BY seq;\n")
	}
	fmt.Fprintf(&b, "PRAGMA application_id = %d;\nPRAGMA user_version = %d;\n", schema.AppID, version)
	return b.String()
}
