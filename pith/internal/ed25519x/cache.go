package ed25519x

import (
	"cmp"
	"crypto/ed25519"
	"sync"
	"sync/atomic"

	"filippo.io/edwards25519"
)

// Limits of the cache. A table takes half a megabyte and as long to make as some
// 30 signatures take without it, so a key gets one when it has earned it: then
// strangers who send ever new keys cost at most twice what they would without
// any tables.
const (
	maxTables = 16      // with a table; a new one takes the place of the oldest
	maxNovice = 1 << 12 // counted on the way to a table; when full, all start again
	tableCost = 32      // signatures
)

// base is the table of the generator B of the curve.
var base = sync.OnceValue(func() *table { return newTable(edwards25519.NewGeneratorPoint()) })

type publicKey = [ed25519.PublicKeySize]byte

// A cache keeps the tables of the keys that came up most lately. Readers take no
// lock. The zero cache is empty and ready.
type cache struct {
	tables  atomic.Pointer[[]keyTable] // never changed, only replaced; the oldest first
	mu      sync.Mutex                 // for what follows, and for replacing tables
	novices map[publicKey]int          // signatures seen under keys without table
	cost    int                        // of a table in signatures; 0 stands for tableCost
}

type keyTable struct {
	key   publicKey
	table *table
}

// table returns the table of a key. It is nil for keys that have not earned one
// and for keys that are no point of the curve.
func (c *cache) table(key *publicKey) *table {
	if t := c.find(key); t != nil {
		return t
	}
	if !c.earned(key) {
		return nil
	}
	p, err := new(edwards25519.Point).SetBytes(key[:])
	if err != nil {
		return nil
	}
	base()
	t := newTable(p) // without the lock: others need not wait
	c.keep(keyTable{*key, t})
	return t
}

func (c *cache) find(key *publicKey) *table {
	tables := c.tables.Load()
	if tables == nil {
		return nil
	}
	for i := range *tables {
		if t := &(*tables)[i]; t.key == *key {
			return t.table
		}
	}
	return nil
}

// earned counts one more signature under a key and reports whether it is the
// one at which the table is made.
func (c *cache) earned(key *publicKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.novices == nil || len(c.novices) >= maxNovice {
		c.novices = make(map[publicKey]int)
	}
	c.novices[*key]++
	if c.novices[*key] < cmp.Or(c.cost, tableCost) {
		return false
	}
	delete(c.novices, *key)
	return true
}

func (c *cache) keep(t keyTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tables []keyTable
	if old := c.tables.Load(); old != nil {
		tables = append(tables, *old...)
	}
	if c.find(&t.key) != nil {
		return // another goroutine was faster
	}
	tables = append(tables, t)
	if len(tables) > maxTables {
		tables = tables[1:]
	}
	c.tables.Store(&tables)
}
