package memstore_test

import (
	"testing"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) resolver.Store { return memstore.New() })
}
