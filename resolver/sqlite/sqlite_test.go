package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/sqlite"
	"github.com/openpith/evidence/resolver/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) resolver.Store {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "pith.db"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
