package sqlite_test

import (
	"path/filepath"
	"testing"

	zsqlite "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/sqlite"
)

// Whatever table is tampered with, Fsck finds it.
func TestFsck(t *testing.T) {
	key, err := pith.NewKey(make([]byte, 32), pith.Signer{ID: "m", Type: "mirror", KeyID: "m-1"})
	if err != nil {
		t.Fatal(err)
	}
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
		`UPDATE counter SET records = 7`,
		`DELETE FROM counter`,
		`DELETE FROM search`,
	} {
		t.Run(damage, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pith.db")
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			service, err := resolver.NewService(resolver.Config{Store: s, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			out, err := service.SubmitAll(t.Context(), []resolver.Submission{{Data: seed.Bundle()}, {Data: []byte("x")}})
			if err != nil || out[0].Err != nil || out[1].Err == nil {
				t.Fatal(out, err)
			}
			if damage != "" {
				conn, err := zsqlite.OpenConn(path, zsqlite.OpenReadWrite)
				if err != nil {
					t.Fatal(err)
				}
				err = sqlitex.ExecuteTransient(conn, damage, nil)
				if err != nil || conn.Changes() == 0 {
					t.Fatalf("%d rows, %v", conn.Changes(), err)
				}
				conn.Close()
			}
			found := 0
			if err := resolver.Fsck(t.Context(), s, func(resolver.Problem) { found++ }, nil); err != nil {
				t.Fatal(err)
			}
			if (found > 0) != (damage != "") {
				t.Errorf("%d problems", found)
			}
		})
	}
}
