package main

import (
	"context"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/mirror"
)

func openStore(ctx context.Context, dsn string) (resolver.Store, error) { return memstore.New(), nil }

func leafOf(e mirror.Event) []byte { return nil }
