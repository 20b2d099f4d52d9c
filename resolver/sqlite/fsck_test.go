package sqlite_test

import (
	"path/filepath"
	"testing"

	zsqlite "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/openpith/evidence/resolver/sqlite"
	"github.com/openpith/evidence/resolver/storetest"
)

// Whatever table is tampered with, Fsck finds it.
func TestFsck(t *testing.T) {
	for _, damage := range []string{
		"", // a sound store
		`UPDATE record SET title = 'x'`,
		`UPDATE record SET state = zeroblob(32)`,
		`UPDATE record SET revision = 99`,
		`UPDATE bundle SET gzip = substr(gzip, 1, 100)`,
		`DELETE FROM bundle`,
		`DELETE FROM alias WHERE kind = 'doi'`,
		`DELETE FROM event WHERE seq = 1`,
		`DELETE FROM event WHERE seq = 0`,
		`UPDATE event SET sha256 = zeroblob(32) WHERE seq = 1`,
		`UPDATE event SET created_at = created_at + 1 WHERE seq = 0`,
		`UPDATE event SET signer_id = 'eve' WHERE seq = 0`,
		`UPDATE key SET entry = '{}'`,
		`UPDATE held SET data = zeroblob(9)`,
		`UPDATE counts SET records = 7`,
		`DELETE FROM counts`,
		`DELETE FROM search`,
		`DELETE FROM search WHERE rowid = 1; INSERT INTO search(rowid, title) VALUES (1, 'smoothout')`,
		`UPDATE search_data SET block = zeroblob(length(block))`,
		`DELETE FROM key WHERE fingerprint = (SELECT max(fingerprint) FROM key)`,
		`DELETE FROM citation`,
		`UPDATE held SET status = 'lost'`,
		`UPDATE held SET suffix = 'CWPYLZDW7AWAX7TQ5ZRNS3OHEM'`,
		`UPDATE held SET truncated = 1`,
		`INSERT INTO meta VALUES ('policy/key-document/00', 'x')`,
		`UPDATE record SET number = 'pith:2019:' || suffix`,
		`UPDATE record SET digest = zeroblob(32)`,
		`UPDATE record SET suffix = 'AWPYLZDW7AWAX7TQ5ZRNS3OHEM'`,
		`UPDATE record SET aliases = '[]'`,
		`UPDATE record SET built_at = built_at + 1`,
		`UPDATE record SET submitted = submitted + 1`,
		`UPDATE record SET replications = 1`,
		`UPDATE record SET event_count = 1`,
		`INSERT INTO alias VALUES ('doi', '10.1/somebody-elses', 1)`,
		`UPDATE citation SET id = '2601.00002'`,
		`INSERT INTO citation SELECT kind, '2601.00002', seq, record, event_id, relation FROM citation`,
		`INSERT INTO citation SELECT kind, '2601.00002', 0, record, event_id, relation FROM citation`,
		`UPDATE citation SET relation = 'refutes'`,
		`UPDATE key SET used = 0`,
		`UPDATE event SET invalid = 'signature' WHERE seq = 2`,
		`UPDATE event SET type = 'correction' WHERE seq = 2`,
		`UPDATE event SET fingerprint = 'x' WHERE seq = 2`,
		`UPDATE event SET event_id = 'x' WHERE seq = 2`,
		`UPDATE event SET event_id = zeroblob(31) WHERE seq = 2`,
		`INSERT INTO record_digest(record_digest) VALUES ('delete-all')`,
		`INSERT INTO event_id(event_id) VALUES ('delete-all')`,
		`INSERT INTO event_id(event_id, rowid, term) SELECT 'delete', seq, substr(lower(hex(event_id)), 1, 16) FROM event WHERE seq = 2`,
		`INSERT INTO event_id(event_id) VALUES ('delete-all'); INSERT INTO event_id(rowid, term) SELECT seq, '0123456789abcdef' FROM event`,
		`UPDATE event_id_data SET block = zeroblob(length(block))`,
		`UPDATE counts SET revision = revision + 1`,
		`UPDATE held SET sha256 = zeroblob(32)`,
		`UPDATE held SET status = 'queued', code = 'key_document'; UPDATE counts SET refused = 0, queued = 1`,
	} {
		t.Run(damage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pith.db")
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			storetest.Fill(t, s)
			if damage != "" {
				conn, err := zsqlite.OpenConn(path, zsqlite.OpenReadWrite)
				if err != nil {
					t.Fatal(err)
				}
				err = sqlitex.ExecuteScript(conn, damage, nil)
				if err != nil || conn.Changes() == 0 {
					t.Fatalf("%d rows, %v", conn.Changes(), err)
				}
				conn.Close()
			}
			if found := storetest.Problems(t, s); (len(found) > 0) != (damage != "") {
				t.Errorf("problems: %q", found)
			}
		})
	}
}
