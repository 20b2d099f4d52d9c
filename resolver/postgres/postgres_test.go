package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/postgres/pgtest"
	"github.com/openpith/evidence/resolver/storetest"
)

func open(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestPostgres has all tests below, so that they share a server.
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("store", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) resolver.Store { return open(t, server.Database(t)) })
	})
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"fsck":     testFsck,
		"migrate":  testMigrate,
		"services": testServices,
		"lock":     testLockLost,
		"full":     testFull,
		"backup":   testBackup,
		"schemas":  testSchemas,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// Whatever table is tampered with, Fsck finds it.
func testFsck(t *testing.T, server *pgtest.Server) {
	template := server.Database(t)
	s := open(t, template)
	storetest.Fill(t, s)
	storetest.Sound(t, s)
	if err := s.Close(); err != nil { // a template is used by nobody
		t.Fatal(err)
	}
	for i, damage := range []string{
		`UPDATE record SET title = 'x'`,
		`UPDATE record SET state = '\x00'`,
		`UPDATE record SET revision = 99`,
		`UPDATE bundle SET gzip = substr(gzip, 1, 100)`,
		`DELETE FROM bundle`,
		`DELETE FROM alias WHERE kind = 'doi'`,
		`DELETE FROM event WHERE seq = 1`,
		`DELETE FROM event WHERE seq = 0`,
		`UPDATE event SET sha256 = '\x00' WHERE seq = 1`,
		`UPDATE event SET created_at = created_at + interval '1 s' WHERE seq = 0`,
		`UPDATE event SET signer_id = 'eve' WHERE seq = 0`,
		`UPDATE event SET event_id = '\x64' WHERE seq = 0`,
		`DELETE FROM citation`,
		`UPDATE key SET entry = '{}'`,
		`DELETE FROM key WHERE fingerprint = (SELECT max(fingerprint) FROM key)`,
		`UPDATE held SET data = '\x00'`,
		`UPDATE held SET status = 'lost'`,
		`UPDATE counter SET records = 7`,
		`DELETE FROM counter`,
		// Rows that change while an index is not ready are not in it.
		`UPDATE pg_index SET indisready = false WHERE indexrelid = 'record_digest'::regclass;
			UPDATE record SET revision = revision + 1000; UPDATE record SET revision = revision - 1000;
			UPDATE pg_index SET indisready = true WHERE indexrelid = 'record_digest'::regclass`,
		`DELETE FROM search`,
		`UPDATE search SET words = words || 'more'`,
		`INSERT INTO meta VALUES ('policy/key-document/00', 'x')`,
		`INSERT INTO alias VALUES (1, 'doi', '10.1/somebody-elses')`,
		`INSERT INTO citation SELECT seq, record, kind, '2601.00002', event_id, relation FROM citation`,
		`INSERT INTO citation SELECT 0, record, kind, '2601.00002', event_id, relation FROM citation`,
		`UPDATE citation SET relation = 'refutes'`,
		`UPDATE key SET used = false`,
		`UPDATE event SET invalid = 'signature' WHERE seq = 2`,
		`UPDATE counter SET revision = revision + 1`,
		`WITH moved AS (UPDATE held SET status = 'queued', code = 'key_document') UPDATE counter SET refused = 0, queued = 1`,
	} {
		t.Run(damage, func(t *testing.T) {
			name := fmt.Sprintf("damaged%d", i)
			server.Exec(t, "postgres", `CREATE DATABASE `+name+` TEMPLATE `+regexp.MustCompile(`test\d+`).FindString(template))
			dsn := server.DSN(name) + "&search_path=pith"
			// As an attacker does, who is past the constraints.
			if n := server.Exec(t, dsn+"&session_replication_role=replica", damage); n == 0 {
				t.Fatal("nothing was damaged")
			}
			if found := storetest.Problems(t, open(t, dsn)); len(found) == 0 {
				t.Error("nothing is found")
			}
		})
	}
}

var write = flag.Bool("write", false, "write the database of the newest schema to testdata, if it is not there")

func fixture(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("schema%d.sql", version))
}

// A database of every schema that was published becomes one of today, and holds
// what it held. After a new step in migrations run
//
//	go test ./resolver/postgres -run TestPostgres/migrate -write
//
// once, and keep the file that it writes: it is never written again.
func testMigrate(t *testing.T, server *pgtest.Server) {
	newest := len(migrations)
	if _, err := os.Stat(fixture(newest)); *write && errors.Is(err, os.ErrNotExist) {
		dsn := server.Database(t)
		s := open(t, dsn)
		storetest.Fill(t, s)
		out, err := exec.Command("pg_dump", "--inserts", "--no-owner", "--schema=pith", "--dbname="+dsn).Output()
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`(?m)^(\\|--).*\n`).ReplaceAllString(string(out), "") // without what is for psql and for people
		text = regexp.MustCompile(`\n{2,}`).ReplaceAllString(strings.TrimSpace(text)+"\n", "\n")
		if err := os.WriteFile(fixture(newest), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fresh := tables(t, open(t, server.Database(t)))
	for version := 1; version <= newest; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			text, err := os.ReadFile(fixture(version))
			if err != nil {
				t.Fatalf("no database of this schema is kept: %v", err)
			}
			dsn := server.Database(t)
			server.Exec(t, dsn, string(text))
			s := open(t, dsn)
			if got := tables(t, s); got != fresh {
				t.Errorf("its tables are\n%s\nthose of a new database\n%s", got, fresh)
			}
			storetest.Filled(t, s)
		})
	}
	// A database that a newer program made is left alone.
	dsn := server.Database(t)
	_ = open(t, dsn).Close()
	server.Exec(t, dsn, fmt.Sprintf(`UPDATE pith.version SET version = %d`, newest+1))
	if _, err := Open(t.Context(), dsn); !errors.Is(err, resolver.ErrNewer) {
		t.Errorf("a newer database was opened with %v", err)
	}
}

// tables is what PostgreSQL knows of the schema of a store.
func tables(t *testing.T, s *Store) string {
	t.Helper()
	lines, err := many(t.Context(), s.pool, readText, `
SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, collation_name) FROM information_schema.columns WHERE table_schema = 'pith'
UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'pith' ORDER BY 1`)
	if err != nil || len(lines) < 50 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	return strings.Join(lines, "\n")
}

// Two services on one database take events of the same records at the same time,
// while a reader follows: it never sees a gap, what was acknowledged is there, and
// nothing depends on who was first.
func testServices(t *testing.T, server *pgtest.Server) {
	dsn := server.Database(t)
	services := []*resolver.Service{storetest.Service(t, open(t, dsn)), storetest.Service(t, open(t, dsn))}
	const records, signers = 6, 4
	total := int64(records * (2 + signers)) // two come with each record
	reader := open(t, dsn)
	followed := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for next := int64(0); next < total; {
			events, err := reader.EventsFrom(ctx, next, 100)
			if err != nil {
				followed <- err
				return
			}
			for _, e := range events {
				if e.Seq != next {
					followed <- fmt.Errorf("after event %d a reader saw %d", next-1, e.Seq)
					return
				}
				next++
			}
		}
		followed <- nil
	}()
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		receipts []*resolver.Receipt
	)
	for signer := range signers {
		for record := range records {
			group.Go(func() {
				service := services[(signer+record)%2]
				receipt, err := service.Submit(t.Context(), resolver.Submission{Data: storetest.Another(t, record, signer), From: "test", Unlimited: true})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				receipts = append(receipts, receipt)
			})
		}
	}
	group.Wait()
	if t.Failed() {
		return
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for _, r := range receipts {
		fresh += r.New
		for _, want := range r.Events {
			got, err := reader.EventsFrom(t.Context(), want.Seq, 1)
			if err != nil || len(got) != 1 || got[0].SHA256 != want.SHA256 || got[0].ID != want.ID {
				t.Fatalf("event %d was acknowledged as %s and is %+v, %v", want.Seq, want.ID, got, err)
			}
		}
	}
	if c, err := reader.Counts(t.Context()); err != nil || c.Events != total || int64(fresh) != total || c.Records != records {
		t.Errorf("%+v, %d were new, %v", c, fresh, err)
	}
	storetest.Sound(t, reader)
}

// Who loses the connection that holds a lock is told, and another gets the lock.
func testLockLost(t *testing.T, server *pgtest.Server) {
	dsn := server.Database(t)
	a, b := open(t, dsn), open(t, dsn)
	entered := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		<-entered
		if err := b.Lock(t.Context(), "log", func(context.Context) error { return nil }); err != nil {
			t.Errorf("the next: %v", err)
		}
	})
	err := a.Lock(t.Context(), "log", func(ctx context.Context) error {
		close(entered)
		if n := server.Exec(t, dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pith lock log' AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)`); n != 1 {
			t.Errorf("%d connections hold the lock", n)
		}
		<-ctx.Done() // or the test runs into its deadline
		return nil
	})
	if !errors.Is(err, ErrLockLost) {
		t.Errorf("a lost lock: %v", err)
	}
	group.Wait()
}

// When there is no room, the error says so, nothing is half written, and the next
// commit works when there is room.
func testFull(t *testing.T, server *pgtest.Server) {
	dsn := server.Database(t)
	s := open(t, dsn)
	storetest.Fill(t, s)
	server.Exec(t, dsn, `
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON pith.event EXECUTE FUNCTION full_disk();
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON pith.meta EXECUTE FUNCTION full_disk();`)
	if _, err := storetest.Service(t, s).Submit(t.Context(), resolver.Submission{Data: storetest.Another(t, 1, 1), From: "test"}); !errors.Is(err, resolver.ErrFull) {
		t.Errorf("a commit to a full disk: %v", err)
	}
	if err := s.SetMeta(t.Context(), "k", []byte("v")); !errors.Is(err, resolver.ErrFull) {
		t.Errorf("a small value to a full disk: %v", err)
	}
	storetest.Sound(t, s)
	server.Exec(t, dsn, `DROP TRIGGER full_disk ON pith.event; DROP TRIGGER full_disk ON pith.meta`)
	storetest.Filled(t, s)
}

func testBackup(t *testing.T, server *pgtest.Server) {
	if _, err := exec.LookPath("pg_dump"); err != nil {
		t.Skip("pg_dump is not installed")
	}
	empty := server.Database(t)
	for _, dsn := range []string{empty, empty, empty + "&search_path=public"} { // the first makes none
		if _, err := OpenThere(t.Context(), dsn); !errors.Is(err, resolver.ErrNoStore) {
			t.Errorf("a database without a mirror: %v", err)
		}
	}
	s := open(t, server.Database(t))
	storetest.Fill(t, s)
	path := filepath.Join(t.TempDir(), "pith.dump")
	// What an attempt left that was killed.
	if err := os.WriteFile(path+".part", []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the backup is not its owner's alone: %v, %v", info, err)
	}
	if err := s.Backup(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	dsn := server.Database(t)
	if out, err := exec.Command("pg_restore", "--no-owner", "--dbname="+dsn, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	storetest.Filled(t, open(t, dsn))
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "such", "directory")); err == nil {
		t.Error("a backup to nowhere succeeded")
	}
}

// Two mirrors in two schemas of one database do not see each other.
func testSchemas(t *testing.T, server *pgtest.Server) {
	dsn := server.Database(t)
	a, b := open(t, dsn), open(t, dsn+"&search_path=other")
	storetest.Fill(t, a)
	if c, err := b.Counts(t.Context()); err != nil || c != (resolver.Counts{}) {
		t.Errorf("the other: %+v %v", c, err)
	}
	err := a.Lock(t.Context(), "log", func(ctx context.Context) error {
		return b.Lock(ctx, "log", func(context.Context) error { return nil })
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), server.DSN("nowhere")); err == nil {
		t.Error("a database that is not there was opened")
	}
}
