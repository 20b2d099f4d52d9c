package postgres_test

import (
	"testing"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/postgres"
	"github.com/openpith/evidence/resolver/postgres/pgtest"
	"github.com/openpith/evidence/resolver/storetest"
)

func open(t *testing.T, dsn string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	server := pgtest.Start(t)
	storetest.Run(t, func(t *testing.T) resolver.Store { return open(t, server.Database(t)) })
}
